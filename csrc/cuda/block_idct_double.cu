// The synthesis machine in float64, any type in and out.
#include "kernels.h"
#include "synthesis.cuh"

namespace freqops::cuda {

cudaError_t launch_synthesis(const SynthesisParams<double>& params, cudaStream_t stream) {
  return launch(synthesis_kernel<AnyType, AnyType, double>, tiles<double>(params.grid),
                kThreads<double>, stream, params);
}

cudaError_t launch_smoothed_adjoint(const SmoothedAdjointParams<double>& params,
                                    cudaStream_t stream) {
  return launch(smoothed_adjoint_kernel<AnyType, double>, pixel_blocks(params), kPixelThreads,
                stream, params);
}

}  // namespace freqops::cuda
