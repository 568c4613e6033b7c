// The synthesis machine in float32: block_idct and block_dct_backward.
#include "kernels.h"
#include "synthesis.cuh"

namespace freqops::cuda {

namespace {

template <class scalar_t, class result_t>
cudaError_t launch_kernel(const SynthesisParams<float>& params, cudaStream_t stream) {
  return launch(synthesis_kernel<scalar_t, result_t, float>, tiles<float>(params.grid),
                kThreads<float>, stream, params);
}

template <class scalar_t>
cudaError_t launch_result(const SynthesisParams<float>& params, cudaStream_t stream) {
  switch (params.result_type) {
    case Type::kUint8: return launch_kernel<scalar_t, uint8_t>(params, stream);
    case Type::kHalf: return launch_kernel<scalar_t, __half>(params, stream);
    case Type::kBfloat16: return launch_kernel<scalar_t, __nv_bfloat16>(params, stream);
    default: return launch_kernel<scalar_t, float>(params, stream);
  }
}

template <class result_t>
cudaError_t launch_adjoint(const SmoothedAdjointParams<float>& params, cudaStream_t stream) {
  return launch(smoothed_adjoint_kernel<result_t, float>, pixel_blocks(params), kPixelThreads,
                stream, params);
}

}  // namespace

cudaError_t launch_synthesis(const SynthesisParams<float>& params, cudaStream_t stream) {
  switch (params.coefficients.type) {
    case Type::kHalf: return launch_result<__half>(params, stream);
    case Type::kBfloat16: return launch_result<__nv_bfloat16>(params, stream);
    default: return launch_result<float>(params, stream);
  }
}

cudaError_t launch_smoothed_adjoint(const SmoothedAdjointParams<float>& params,
                                    cudaStream_t stream) {
  switch (params.result_type) {
    case Type::kHalf: return launch_adjoint<__half>(params, stream);
    case Type::kBfloat16: return launch_adjoint<__nv_bfloat16>(params, stream);
    default: return launch_adjoint<float>(params, stream);
  }
}

}  // namespace freqops::cuda
