// How many pixels of a row the register DCTs move at once: the host decides for each launch.
#pragma once

#include "../plan.h"

namespace freqops::cuda {

// The bytes that one access moves in rows of pixels: eight elements of one byte, else 16 bytes.
template <int kSize>
constexpr int kWideBytes = kSize == 1 ? 8 : 16;

// How the eight pixels of a row of a block lie in memory.
enum class PixelAccess : uint8_t {
  kElements,     // in any way: one element at a time
  kRows,         // those of a colour next to each other, aligned to kWideBytes
  kInterleaved,  // red, green, blue, red, ... without gaps, aligned to kWideBytes
};

// Whether the first pixel, and all steps from row to row, picture to picture and, where they lie apart,
// colour to colour, are multiples of so many bytes. Blocks start at multiples of 8 pixels, so they
// are aligned then; launches that begin at a later picture are too.
inline bool aligned(const View& v, int64_t bytes) {
  const auto fits = [&](int64_t size, int64_t stride) {
    return size == 1 || stride * element_size(v.type) % bytes == 0;
  };
  return reinterpret_cast<uintptr_t>(v.data) % bytes == 0 && fits(v.batch, v.stride_n) &&
         fits(v.height, v.stride_h) && (v.stride_c == 1 || fits(kComponents, v.stride_c));
}

inline int64_t wide_bytes(Type type) {
  return type == Type::kUint8 ? kWideBytes<1> : kWideBytes<2>;
}

// The widest access that the memory of pictures allows.
inline PixelAccess widest_access(const View& v) {
  if (!aligned(v, wide_bytes(v.type))) return PixelAccess::kElements;
  if (v.stride_w == 1 && v.stride_c != 1) return PixelAccess::kRows;
  if (v.stride_w == kComponents && v.stride_c == 1) return PixelAccess::kInterleaved;
  return PixelAccess::kElements;
}

// Whether the rows of contiguous pictures are whole blocks that all start aligned.
inline bool wide_result(const void* data, Type type, int64_t width) {
  return width % kBlock == 0 && reinterpret_cast<uintptr_t>(data) % wide_bytes(type) == 0;
}

}  // namespace freqops::cuda
