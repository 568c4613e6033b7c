// FREQOPS_HOST_DEVICE marks arithmetic that CPU and CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define FREQOPS_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define FREQOPS_HOST_DEVICE inline __attribute__((always_inline))
#endif
