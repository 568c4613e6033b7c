// What host code hands to a kernel of either backend, without a torch header.
//
// The four transforms are one of two linear machines with different constants:
//   analysis    pixels -> 3x3 matrix, shift -> chroma smoothing -> rounding -> DCT -> scale, offset
//               (block_dct and block_idct_backward)
//   synthesis   coefficients -> scale, offset -> inverse DCT -> chroma smoothing -> 3x3 matrix,
//               shift
//               (block_idct and block_dct_backward)
// The smoothing is symmetric: replicated edges leave 7/8 on the diagonal at both ends, so it is its
// own transpose.
#pragma once

#include <cstdint>

#include "math/dct8.h"

namespace freqops {

enum class Type : uint8_t { kUint8, kHalf, kBfloat16, kFloat, kDouble };

enum class Chroma : uint8_t {
  k444,     // as it is
  k420,     // 2x2 means, replicated
  kDctnet,  // [1 6 1] / 8 in both directions
};

// Pixels beyond the right and bottom edge, up to the next multiple of 8.
enum class Edge : uint8_t {
  kReplicate,  // the last column and row again
  kZero,
};

// A picture batch [n, 3, height, width] or coefficients [n, channels, height, width], any strides,
// counted in elements.
struct View {
  void* data;
  Type type;
  int64_t batch, channels, height, width;
  int64_t stride_n, stride_c, stride_h, stride_w;
};

// Features [N, C, H, W] without gaps, as the channel gate takes them: a run of H W elements for each
// of the N C planes, or channels_last [N, H W, C].
struct Features {
  int64_t batch, channels, pixels;  // N, C, H W
  bool channels_last;
  Type type;
};

inline int64_t blocks(int64_t pixels) { return (pixels + kBlock - 1) / kBlock; }

inline int64_t element_size(Type type) {
  switch (type) {
    case Type::kUint8: return 1;
    case Type::kHalf:
    case Type::kBfloat16: return 2;
    case Type::kFloat: return 4;
    case Type::kDouble: break;
  }
  return 8;
}

inline bool is_double(Type type) { return type == Type::kDouble; }

// "4:4:4", "4:2:0", "dctnet"; false for any other name.
inline bool parse_chroma(const char* name, Chroma* chroma) {
  const auto is = [name](const char* other) {
    int i = 0;
    while (name[i] && name[i] == other[i]) ++i;
    return name[i] == other[i];
  };
  if (is("4:4:4")) return *chroma = Chroma::k444, true;
  if (is("4:2:0")) return *chroma = Chroma::k420, true;
  if (is("dctnet")) return *chroma = Chroma::kDctnet, true;
  return false;
}

}  // namespace freqops
