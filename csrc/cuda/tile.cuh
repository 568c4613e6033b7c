// What both machines share: a thread block's tile of consecutive 8x8 blocks, the shared memory that
// turns pixel columns into rows of coefficients, element types, statistics.
#pragma once

#include "launch.cuh"
#include "params.h"

namespace freqops::cuda {

// Blocks in a tile: a warp's lanes, so that a channel is moved in runs of 32 elements. float64 takes
// half as many to stay below 48 KB of shared memory.
template <class acc>
constexpr int kTile = sizeof(acc) == 4 ? 32 : 16;

// One thread for each pixel column of the tile, later one for each row of coefficients.
template <class acc>
constexpr int kThreads = kTile<acc> * kBlock;

template <class acc>
unsigned tiles(const Grid& grid) {
  return (grid.blocks + kTile<acc> - 1) / kTile<acc>;
}

// planes[component][row][column or u][block]. A pitch of 36 keeps both directions free of bank
// conflicts: a warp of pixel columns touches words 36 x + b = 4 x + b mod 32 with x < 8 and four
// consecutive b, a warp of blocks 32 neighbours.
template <class acc>
using Planes = acc[kComponents][kBlock][kBlock][kTile<acc> + 4];

static_assert(sizeof(Planes<float>) <= 40 * 1024 && sizeof(Planes<double>) <= 40 * 1024);

// A block's place in the batch.
struct Place {
  uint32_t picture, row, column;
  uint32_t index;  // in its picture
};

__device__ __forceinline__ uint32_t quotient(uint32_t n, const Divisor& d) {
  return (uint32_t(uint64_t(n) * d.multiplier >> 32) + n) >> d.shift;
}

__device__ __forceinline__ Place place(uint32_t block, const Grid& grid) {
  const uint32_t picture = quotient(block, grid.area);
  const uint32_t index = block - picture * grid.area.divisor;
  const uint32_t row = quotient(index, grid.width);
  return {picture, row, index - row * grid.width.divisor, index};
}

template <class T>
__device__ __forceinline__ T smaller(T a, T b) {
  return a < b ? a : b;
}

template <class T>
__device__ __forceinline__ T larger(T a, T b) {
  return a > b ? a : b;
}

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

template <class acc>
__device__ __forceinline__ acc element(const Statistic& s, int i) {
  return s.is_double ? acc(static_cast<const double*>(s.data)[i])
                     : acc(static_cast<const float*>(s.data)[i]);
}

// mean or std of entry e.
template <class acc>
__device__ __forceinline__ acc statistic(const Statistic& s, const Channels& channels, int e) {
  return element<acc>(s, s.by_coefficient ? channels.coefficient[e] : channels.position[e]);
}

// Entry e of the channels in shared memory: tensor = coefficient * scale + offset on the way out,
// coefficient = tensor * scale on the way in. In float32 one load of 16 bytes.
template <class acc>
struct alignas(16) Entry {
  acc scale, offset;
  int64_t channel;  // bytes from a block's first channel
};

}  // namespace freqops::cuda
