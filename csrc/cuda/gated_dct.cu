// The analysis machine in float32 with a gate.
#include "analysis.cuh"
#include "kernels.h"

namespace freqops::cuda {

namespace {

template <class scalar_t, class result_t>
cudaError_t launch_chroma(const AnalysisParams<float>& params, cudaStream_t stream) {
  const auto kernel = params.chroma == Chroma::kDctnet
                          ? analysis_kernel<scalar_t, result_t, float, true, true>
                          : analysis_kernel<scalar_t, result_t, float, false, true>;
  return launch(kernel, tiles<float>(params.grid), kThreads<float>, stream, params);
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

cudaError_t launch_gated_analysis(const AnalysisParams<float>& params, cudaStream_t stream) {
  return params.pictures.type == Type::kUint8 ? launch_result<uint8_t>(params, stream)
                                              : launch_result<float>(params, stream);
}

}  // namespace freqops::cuda
