// The analysis machine in float32: block_dct and block_idct_backward.
#include "analysis.cuh"
#include "kernels.h"

namespace freqops::cuda {

namespace {

template <class scalar_t, class result_t, bool kSmoothed>
cudaError_t launch_kernel(const AnalysisParams<float>& params, cudaStream_t stream) {
  return launch(analysis_kernel<scalar_t, result_t, float, kSmoothed>, tiles<float>(params.grid),
                kThreads<float>, stream, params);
}

template <class scalar_t, class result_t>
cudaError_t launch_chroma(const AnalysisParams<float>& params, cudaStream_t stream) {
  return params.chroma == Chroma::kDctnet
             ? launch_kernel<scalar_t, result_t, true>(params, stream)
             : launch_kernel<scalar_t, result_t, false>(params, stream);
}

template <class scalar_t>
cudaError_t launch_result(const AnalysisParams<float>& params, cudaStream_t stream) {
  switch (params.result_type) {
    case Type::kHalf: return launch_chroma<scalar_t, __half>(params, stream);
    case Type::kBfloat16: return launch_chroma<scalar_t, __nv_bfloat16>(params, stream);
    default: return launch_chroma<scalar_t, float>(params, stream);
  }
}

}  // namespace

cudaError_t launch_analysis(const AnalysisParams<float>& params, cudaStream_t stream) {
  switch (params.pictures.type) {
    case Type::kUint8: return launch_result<uint8_t>(params, stream);
    case Type::kHalf: return launch_result<__half>(params, stream);
    case Type::kBfloat16: return launch_result<__nv_bfloat16>(params, stream);
    default: return launch_result<float>(params, stream);
  }
}

}  // namespace freqops::cuda
