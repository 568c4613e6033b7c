// How elements lie in memory: of a type that the compiler knows, or that only the launch does.
#pragma once

#include "../plan.h"
#include "launch.cuh"

namespace freqops::cuda {

// To the nearest integer, ties to even.
__device__ __forceinline__ float round_even(float x) { return rintf(x); }
__device__ __forceinline__ double round_even(double x) { return rint(x); }

// acc to an element, rounded to nearest even; uint8 is clamped and 0 for NaN.
template <class T, class acc>
struct Store {
  static __device__ __forceinline__ T value(acc x) { return T(x); }
};

template <class acc>
struct Store<uint8_t, acc> {
  static __device__ __forceinline__ uint8_t value(acc x) {
    if (!(x > acc(0))) return 0;  // NaN too
    return uint8_t(round_even(x < acc(255) ? x : acc(255)));
  }
};

// How elements lie in memory, for a type that the compiler knows.
template <class T>
struct Memory {
  static __device__ __forceinline__ int64_t size(Type) { return sizeof(T); }

  template <class acc>
  static __device__ __forceinline__ acc load(const void* at, Type) {
    return acc(*static_cast<const T*>(at));
  }
  template <class acc>
  static __device__ __forceinline__ void store(void* at, Type, acc x) {
    *static_cast<T*>(at) = Store<T, acc>::value(x);
  }
};

// The same for one it does not know: a single float64 kernel serves every pair of types.
struct AnyType {};

template <>
struct Memory<AnyType> {
  static __device__ __forceinline__ int64_t size(Type type) {
    switch (type) {
      case Type::kUint8: return sizeof(uint8_t);
      case Type::kHalf: return sizeof(__half);
      case Type::kBfloat16: return sizeof(__nv_bfloat16);
      case Type::kFloat: return sizeof(float);
      default: return sizeof(double);
    }
  }
  template <class acc>
  static __device__ __forceinline__ acc load(const void* at, Type type) {
    switch (type) {
      case Type::kUint8: return acc(*static_cast<const uint8_t*>(at));
      case Type::kHalf: return acc(float(*static_cast<const __half*>(at)));
      case Type::kBfloat16: return acc(float(*static_cast<const __nv_bfloat16*>(at)));
      case Type::kFloat: return acc(*static_cast<const float*>(at));
      default: return acc(*static_cast<const double*>(at));
    }
  }
  template <class acc>
  static __device__ __forceinline__ void store(void* at, Type type, acc x) {
    switch (type) {
      case Type::kUint8: *static_cast<uint8_t*>(at) = Store<uint8_t, acc>::value(x); break;
      case Type::kHalf: *static_cast<__half*>(at) = __half(x); break;
      case Type::kBfloat16: *static_cast<__nv_bfloat16*>(at) = __nv_bfloat16(x); break;
      case Type::kFloat: *static_cast<float*>(at) = float(x); break;
      default: *static_cast<double*>(at) = double(x);
    }
  }
};

// Element i of a tensor.
template <class T, class acc>
__device__ __forceinline__ acc load(const void* data, Type type, int64_t i) {
  return Memory<T>::template load<acc>(static_cast<const char*>(data) + i * Memory<T>::size(type),
                                       type);
}

template <class T, class acc>
__device__ __forceinline__ void store(void* data, Type type, int64_t i, acc x) {
  Memory<T>::store(static_cast<char*>(data) + i * Memory<T>::size(type), type, x);
}

}  // namespace freqops::cuda
