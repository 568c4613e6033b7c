// What a thread takes of a tensor at a time, as it lies in memory: 16 bytes, or one element.
#pragma once

#include <cstring>
#include <type_traits>

#include "element.cuh"

namespace freqops::cuda {

// Bits as a value and back.
template <class To, class From>
__device__ __forceinline__ To bit_cast(From x) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  memcpy(&out, &x, sizeof out);
  return out;
}

// An element as a number; 16-bit ones become float alone.
template <class acc, class T>
__device__ __forceinline__ acc widen(T x) {
  if constexpr (sizeof(T) == 2) {
    return acc(float(x));
  } else {
    return acc(x);
  }
}

// Elements that a thread takes at a time, as they lie in memory: a copy keeps every bit. Three of a
// kind; the first has 16 bytes, in words, since two 16-bit elements apart take two registers.
// kAligned: at a multiple of 16.
template <class T, bool kAligned>
struct Vector {
  static constexpr int kCount = 16 / sizeof(T), kInWord = 4 / sizeof(T);
  alignas(kAligned ? 16 : 4) uint32_t word[4];

  static __device__ __forceinline__ int64_t size(Type) { return sizeof(T); }

  __device__ __forceinline__ void load(const char* at, Type) {
    if constexpr (kAligned) {
      *this = *reinterpret_cast<const Vector*>(at);
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k) insert(k, reinterpret_cast<const Bits*>(at)[k]);
    }
  }
  __device__ __forceinline__ void store(char* at, Type) const {
    if constexpr (kAligned) {
      *reinterpret_cast<Vector*>(at) = *this;
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k) reinterpret_cast<Bits*>(at)[k] = bits(k);
    }
  }
  template <class acc>
  __device__ __forceinline__ acc value(Type, int k) const {
    return widen<acc>(bit_cast<T>(bits(k)));
  }
  template <class acc>
  __device__ __forceinline__ void set(Type, int k, acc x) {
    insert(k, bit_cast<Bits>(T(x)));
  }

 private:
  using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, uint32_t>;
  static_assert(sizeof(T) == sizeof(Bits));

  __device__ __forceinline__ Bits bits(int k) const {
    return Bits(word[k / kInWord] >> (k % kInWord * 16));
  }
  __device__ __forceinline__ void insert(int k, Bits x) {
    const int shift = k % kInWord * 16;
    uint32_t& w = word[k / kInWord];
    w = (w & ~(uint32_t(Bits(~0u)) << shift)) | uint32_t(x) << shift;
  }
};

// One element.
template <class T>
struct Single {
  static constexpr int kCount = 1;
  T element;

  static __device__ __forceinline__ int64_t size(Type) { return sizeof(T); }

  __device__ __forceinline__ void load(const char* at, Type) {
    element = *reinterpret_cast<const T*>(at);
  }
  __device__ __forceinline__ void store(char* at, Type) const {
    *reinterpret_cast<T*>(at) = element;
  }
  template <class acc>
  __device__ __forceinline__ acc value(Type, int) const {
    return widen<acc>(element);
  }
  template <class acc>
  __device__ __forceinline__ void set(Type, int, acc x) {
    element = T(x);
  }
};

// One element of a type that the launch names.
template <>
struct Single<AnyType> {
  static constexpr int kCount = 1;
  uint64_t bits;

  static __device__ __forceinline__ int64_t size(Type type) { return Memory<AnyType>::size(type); }

  __device__ __forceinline__ void load(const char* at, Type type) {
    switch (size(type)) {
      case 2: bits = *reinterpret_cast<const uint16_t*>(at); break;
      case 4: bits = *reinterpret_cast<const uint32_t*>(at); break;
      default: bits = *reinterpret_cast<const uint64_t*>(at);
    }
  }
  __device__ __forceinline__ void store(char* at, Type type) const {
    switch (size(type)) {
      case 2: *reinterpret_cast<uint16_t*>(at) = uint16_t(bits); break;
      case 4: *reinterpret_cast<uint32_t*>(at) = uint32_t(bits); break;
      default: *reinterpret_cast<uint64_t*>(at) = bits;
    }
  }
  template <class acc>
  __device__ __forceinline__ acc value(Type type, int) const {
    switch (type) {
      case Type::kHalf: return widen<acc>(bit_cast<__half>(uint16_t(bits)));
      case Type::kBfloat16: return widen<acc>(bit_cast<__nv_bfloat16>(uint16_t(bits)));
      case Type::kFloat: return widen<acc>(bit_cast<float>(uint32_t(bits)));
      default: return widen<acc>(bit_cast<double>(bits));
    }
  }
  template <class acc>
  __device__ __forceinline__ void set(Type type, int, acc x) {
    switch (type) {
      case Type::kHalf: bits = bit_cast<uint16_t>(__half(x)); break;
      case Type::kBfloat16: bits = bit_cast<uint16_t>(__nv_bfloat16(x)); break;
      case Type::kFloat: bits = bit_cast<uint32_t>(float(x)); break;
      default: bits = bit_cast<uint64_t>(double(x));
    }
  }
};

}  // namespace freqops::cuda
