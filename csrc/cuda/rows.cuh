// Eight pixels of a row of a block, in accesses of 8 or 16 bytes where the launch allows them
// (pixel_access.h), else one element at a time.
#pragma once

#include "pack.cuh"
#include "tile.cuh"

namespace freqops::cuda {

// What one access moves: eight elements of uint8, 16 bytes of any other type.
template <class T>
struct alignas(kWideBytes<sizeof(T)>) Wide {
  uint32_t word[kWideBytes<sizeof(T)> / 4];
};

// A GPU faults where the address is not aligned, and so does the emulation.
template <class T>
__device__ __forceinline__ void check_aligned([[maybe_unused]] const void* at) {
#if defined(FREQOPS_EMULATED)
  if (reinterpret_cast<uintptr_t>(at) % sizeof(Wide<T>) != 0) emulation::fail("misaligned address");
#endif
}

// Bytes that the digits of the selector name, the lowest first: 0 to 3 of a, 4 to 7 of b.
__device__ __forceinline__ uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selector) {
#if defined(FREQOPS_EMULATED)
  const uint64_t both = uint64_t(b) << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) out |= uint32_t(both >> 8 * (selector >> 4 * i & 7) & 0xff) << 8 * i;
  return out;
#else
  return __byte_perm(a, b, selector);
#endif
}

// float32 2^23 + n has the integer n in its low bits, so bytes become float32 and back by moving
// bytes and one addition, at a higher rate than the conversion instructions.
constexpr float kTwoTo23 = 8388608;

__device__ __forceinline__ float byte_to_float(uint32_t word, int byte) {
  const uint32_t bits = permute_bytes(word, 0x4b000000, 0x7440 + byte);
  return bit_cast<float>(bits) - kTwoTo23;
}

// As Store<uint8_t>, in the lowest byte.
__device__ __forceinline__ uint32_t float_to_byte(float x) {
  return bit_cast<uint32_t>(fminf(fmaxf(x, 0), 255) + kTwoTo23);
}

// kCount elements from an aligned address.
template <class T, int kCount>
__device__ __forceinline__ void load_run(const char* at, float (&x)[kCount]) {
  constexpr int kEach = sizeof(Wide<T>) / sizeof(T);
  static_assert(kCount % kEach == 0);
#pragma unroll
  for (int i = 0; i < kCount; i += kEach) {
    check_aligned<T>(at + i * sizeof(T));
    const Wide<T> run = *reinterpret_cast<const Wide<T>*>(at + i * sizeof(T));
    if constexpr (sizeof(T) == 1) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) x[i + j] = byte_to_float(run.word[j / 4], j % 4);
    } else {
      T elements[kEach];
      memcpy(elements, &run, sizeof run);
#pragma unroll
      for (int j = 0; j < kEach; ++j) x[i + j] = float(elements[j]);
    }
  }
}

// Eight elements to an aligned address.
template <class T>
__device__ __forceinline__ void store_run(char* at, const float (&x)[kBlock]) {
  constexpr int kEach = sizeof(Wide<T>) / sizeof(T);
#pragma unroll
  for (int i = 0; i < kBlock; i += kEach) {
    Wide<T> run;
    if constexpr (sizeof(T) == 1) {
#pragma unroll
      for (int j = 0; j < kEach; j += 4) {
        const uint32_t low =
            permute_bytes(float_to_byte(x[i + j]), float_to_byte(x[i + j + 1]), 0x0040);
        const uint32_t high =
            permute_bytes(float_to_byte(x[i + j + 2]), float_to_byte(x[i + j + 3]), 0x0040);
        run.word[j / 4] = permute_bytes(low, high, 0x5410);
      }
    } else {
      T elements[kEach];
#pragma unroll
      for (int j = 0; j < kEach; ++j) elements[j] = Store<T, float>::value(x[i + j]);
      memcpy(&run, elements, sizeof run);
    }
    check_aligned<T>(at + i * sizeof(T));
    *reinterpret_cast<Wide<T>*>(at + i * sizeof(T)) = run;
  }
}

// A row of a picture.
template <class scalar_t, class acc>
struct Row {
  const View& view;
  const char* start;

  __device__ __forceinline__ Row(const View& v, uint32_t picture, int row)
      : view(v), start(element(v.data, picture * v.stride_n + row * v.stride_h)) {}

  __device__ __forceinline__ const char* element(const void* from, int64_t i) const {
    return static_cast<const char*>(from) + i * Memory<scalar_t>::size(view.type);
  }

  // Red, green and blue of one pixel.
  __device__ __forceinline__ void load_pixel(int column, acc (&x)[kComponents]) const {
    const char* const at = element(start, column * view.stride_w);
#pragma unroll
    for (int c = 0; c < kComponents; ++c)
      x[c] = Memory<scalar_t>::template load<acc>(element(at, c * view.stride_c), view.type);
  }

  // Of eight pixels; beyond the right edge the last one again. Three addresses move along together,
  // and stay where they are at the last pixel: replication without a product or a comparison of
  // 64 bits for each.
  __device__ __forceinline__ void load_elements(int column, acc (&x)[kComponents][kBlock]) const {
    const int64_t step = view.stride_w * Memory<scalar_t>::size(view.type);
    const int last = int(view.width) - 1;
    const char* colour[kComponents];
#pragma unroll
    for (int c = 0; c < kComponents; ++c)
      colour[c] = element(start, column * view.stride_w + c * view.stride_c);
#pragma unroll
    for (int i = 0; i < kBlock; ++i) {
      const int64_t right = column + i < last ? step : 0;
#pragma unroll
      for (int c = 0; c < kComponents; ++c) {
        x[c][i] = Memory<scalar_t>::template load<acc>(colour[c], view.type);
        colour[c] += right;
      }
    }
  }

  // The same by the launch's access. A block that the right edge cuts takes the last way.
  __device__ __forceinline__ void load(PixelAccess access, int column,
                                       acc (&x)[kComponents][kBlock]) const {
    if constexpr (!std::is_same_v<scalar_t, AnyType>) {
      if (column + kBlock <= int(view.width)) {
        if (access == PixelAccess::kRows) {
#pragma unroll
          for (int c = 0; c < kComponents; ++c)
            load_run<scalar_t>(element(start, column + c * view.stride_c), x[c]);
          return;
        }
        if (access == PixelAccess::kInterleaved) {
          acc mixed[kBlock * kComponents];
          load_run<scalar_t>(element(start, column * kComponents), mixed);
#pragma unroll
          for (int i = 0; i < kBlock; ++i)
            for (int c = 0; c < kComponents; ++c) x[c][i] = mixed[i * kComponents + c];
          return;
        }
      }
    }
    load_elements(column, x);
  }
};

}  // namespace freqops::cuda
