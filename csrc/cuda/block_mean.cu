// block_dct_mean with sums in float32, and the product with a gate.
#include "block_mean.cuh"

namespace freqops::cuda {

cudaError_t launch_mean(const MeanParams<float>& params, cudaStream_t stream) {
  switch (params.pictures.type) {
    case Type::kUint8: return launch_mean_type<uint8_t>(params, stream);
    case Type::kHalf: return launch_mean_type<__half>(params, stream);
    case Type::kBfloat16: return launch_mean_type<__nv_bfloat16>(params, stream);
    default: return launch_mean_type<float>(params, stream);
  }
}

template <>
cudaError_t launch_scaling<float>(const ScalingParams& params, unsigned blocks,
                                  cudaStream_t stream) {
  return launch(scaling_kernel<float>, blocks, kScalingThreads, stream, params);
}

}  // namespace freqops::cuda
