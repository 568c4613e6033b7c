// The channel gate with sums in float32.
#include "gumbel_gate.cuh"

namespace freqops::cuda {

namespace {

// Forward, features that begin elsewhere than at a multiple of 16 bytes go one by one. Backward the
// order of a sum is that of aligned ones: bits depend on values alone.
template <class T>
cudaError_t launch_access(const GateParams& params, unsigned blocks, cudaStream_t stream) {
  return params.access == Access::kVectors
             ? launch_gate_kernel<Vector<T, true>, float>(params, blocks, stream)
             : launch_gate_kernel<Single<T>, float>(params, blocks, stream);
}

template <class T>
cudaError_t launch_access(const GateBackwardParams& params, unsigned blocks, cudaStream_t stream) {
  switch (params.access) {
    case Access::kVectors:
      return launch_gate_backward_kernel<Vector<T, true>, float>(params, blocks, stream);
    case Access::kUnaligned:
      return launch_gate_backward_kernel<Vector<T, false>, float>(params, blocks, stream);
    default: return launch_gate_backward_kernel<Single<T>, float>(params, blocks, stream);
  }
}

template <class Params>
cudaError_t launch_type(const Params& params, unsigned blocks, cudaStream_t stream) {
  switch (params.type) {
    case Type::kHalf: return launch_access<__half>(params, blocks, stream);
    case Type::kBfloat16: return launch_access<__nv_bfloat16>(params, blocks, stream);
    default: return launch_access<float>(params, blocks, stream);
  }
}

}  // namespace

template <>
cudaError_t launch_gate<float>(const GateParams& params, unsigned blocks, cudaStream_t stream) {
  return launch_type(params, blocks, stream);
}

template <>
cudaError_t launch_gate_backward<float>(const GateBackwardParams& params, unsigned blocks,
                                        cudaStream_t stream) {
  return launch_type(params, blocks, stream);
}

template <>
cudaError_t launch_gate_finish<float>(const GateBackwardParams& params, unsigned blocks,
                                      cudaStream_t stream) {
  return launch(gate_finish_kernel<float>, blocks, kGateThreads, stream, params);
}

}  // namespace freqops::cuda
