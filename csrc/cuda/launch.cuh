// How kernels are compiled and started: by nvcc, or by the host compiler under the emulation of
// tests/emulation, which has the same names.
#pragma once

#if defined(FREQOPS_EMULATED)
#include "cuda_on_host.h"
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

// A grid of one dimension. The result is that of the launch alone: kernels run later.
template <class Params>
cudaError_t launch(void (*kernel)(Params), unsigned blocks, unsigned threads, cudaStream_t stream,
                   const Params& params) {
  kernel<<<blocks, threads, 0, stream>>>(params);
  return cudaGetLastError();
}

// Of the current device.
inline cudaError_t multiprocessors(int* count) {
  int device = 0;
  const cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}
#endif
