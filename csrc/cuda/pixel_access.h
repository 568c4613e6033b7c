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

inline bool wide_aligned(Type type, int64_t bytes) {
  return bytes % (type == Type::kUint8 ? kWideBytes<1> : kWideBytes<2>) == 0;
}

inline bool wide_aligned(Type type, const void* data) {
  return wide_aligned(type, int64_t(reinterpret_cast<uintptr_t>(data)));
}

// The widest access that the memory of pictures allows. Blocks start at multiples of 8 pixels, so
// alignment is that of the first pixel and of the steps between rows, colours and pictures. Launches
// that begin at a later picture have the same.
inline PixelAccess widest_access(const View& v) {
  const auto aligned = [&](int64_t stride) {
    return wide_aligned(v.type, stride * element_size(v.type));
  };
  if (!wide_aligned(v.type, v.data) || !aligned(v.stride_n) || !aligned(v.stride_h))
    return PixelAccess::kElements;
  if (v.stride_w == 1 && aligned(v.stride_c)) return PixelAccess::kRows;
  if (v.stride_w == kComponents && v.stride_c == 1) return PixelAccess::kInterleaved;
  return PixelAccess::kElements;
}

// Whether the rows of contiguous pictures are whole blocks that all start aligned.
inline bool wide_result(const void* data, Type type, int64_t width) {
  return width % kBlock == 0 && wide_aligned(type, data);
}

}  // namespace freqops::cuda
