// The device of a tensor as the current one, and the caller's stream there.
#pragma once

#include "../stable.h"
#include "kernels.h"

namespace freqops::cuda {

#if defined(FREQOPS_EMULATED)

struct DeviceScope {
  explicit DeviceScope(const torch::stable::Tensor&) {}
  cudaStream_t stream() const { return nullptr; }
};

inline void check_launch(cudaError_t) {}

#else

class DeviceScope {
 public:
  explicit DeviceScope(const torch::stable::Tensor& t) : guard_(t.get_device_index()) {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
    stream_ = static_cast<cudaStream_t>(stream);
  }
  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_;
};

inline void check_launch(cudaError_t error) { STD_CUDA_CHECK(error); }

#endif

}  // namespace freqops::cuda
