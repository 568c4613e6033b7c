// How kernels are compiled and started: by nvcc, or by the host compiler under the emulation of
// tests/emulation, which has the same names.
#pragma once

#if defined(FREQOPS_EMULATED)
#include "cuda_on_host.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// A grid of one dimension. The result is that of the launch alone: kernels run later. `shared`: bytes
// of dynamic_shared().
template <class Params>
cudaError_t launch(void (*kernel)(Params), unsigned blocks, unsigned threads, cudaStream_t stream,
                   const Params& params, unsigned shared = 0) {
  if (shared > 48 * 1024) {  // what a kernel gets without being asked for
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
    if (error != cudaSuccess) return error;
  }
  kernel<<<blocks, threads, shared, stream>>>(params);
  return cudaGetLastError();
}

// Memory of a thread block, as much as its launch has asked for.
__device__ __forceinline__ char* dynamic_shared() {
  extern __shared__ uint4 memory[];
  return reinterpret_cast<char*>(memory);
}

// An attribute of the current device.
inline cudaError_t device_attribute(int* value, cudaDeviceAttr attribute) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(value, attribute, device);
}
#endif
