// block_dct_mean of float64 pictures, and the product with a gate in float64.
#include "block_mean.cuh"

namespace freqops::cuda {

cudaError_t launch_mean(const MeanParams<double>& params, cudaStream_t stream) {
  return launch_mean_type<AnyType>(params, stream);
}

template <>
cudaError_t launch_scaling<double>(const ScalingParams& params, unsigned blocks,
                                   cudaStream_t stream) {
  return launch(scaling_kernel<double>, blocks, kScalingThreads, stream, params);
}

}  // namespace freqops::cuda
