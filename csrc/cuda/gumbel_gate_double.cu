// The channel gate with sums in float64, any type of features.
#include "gumbel_gate.cuh"

namespace freqops::cuda {

template <>
cudaError_t launch_gate<double>(const GateParams& params, unsigned blocks, cudaStream_t stream) {
  return launch_gate_kernel<Single<AnyType>, double>(params, blocks, stream);
}

template <>
cudaError_t launch_gate_backward<double>(const GateBackwardParams& params, unsigned blocks,
                                         cudaStream_t stream) {
  return launch_gate_backward_kernel<Single<AnyType>, double>(params, blocks, stream);
}

template <>
cudaError_t launch_gate_finish<double>(const GateBackwardParams& params, unsigned blocks,
                                       cudaStream_t stream) {
  return launch(gate_finish_kernel<double>, blocks, kGateThreads, stream, params);
}

}  // namespace freqops::cuda
