// What the two machines of plan.h are told: everything by value in the kernel's parameters, but
// mean, std and the tensors themselves, which stay where they are on the device.
#pragma once

#include <cstdint>

#include "../math/color.h"
#include "../math/dct8.h"
#include "../plan.h"
#include "pixel_access.h"

namespace freqops::cuda {

// n / d for n < 2^31: a product and a shift in place of some 20 instructions. With s = ceil(log2 d)
// and m = floor(2^32 (2^s - d) / d) + 1 the quotient is (floor(n m / 2^32) + n) >> s (Granlund and
// Montgomery, PLDI 1994, figure 4.1).
struct Divisor {
  uint32_t divisor, multiplier, shift;

  static Divisor of(uint32_t d) {
    uint32_t s = 0;
    while (uint64_t(1) << s < d) ++s;
    const uint64_t m = ((uint64_t(1) << 32) * ((uint64_t(1) << s) - d)) / d + 1;
    return {d, uint32_t(m), s};
  }
};

// The blocks of one launch in raster order: picture after picture, row after row.
struct Grid {
  uint32_t blocks;      // of all pictures, below 2^31
  Divisor area, width;  // blocks of a picture, and of one row of it
};

// component * 64 + v * 8 + u to component * 64 + u * 8 + v, and back.
FREQOPS_HOST_DEVICE constexpr int transposed(int c) {
  return c / kCoefficients * kCoefficients + c % kBlock * kBlock + c / kBlock % kBlock;
}

// The chosen channels: entry e is channel position[e] of the tensor and holds coefficient[e]. They are
// in ascending order of component * 64 + u * 8 + v, one column of coefficients after the other, where
// column_start is read, else in any order.
struct Channels {
  int32_t count;                   // C
  uint8_t coefficient[kChannels];  // [C] component * 64 + v * 8 + u
  uint8_t position[kChannels];     // [C]
  uint8_t
      column_start[kChannels + 1];  // of component * 64 + u * 8 + v: its entries, up to the next
  uint8_t columns[kComponents];     // bit u: column u of the component holds something
};

// mean or std on the device, or null.
struct Statistic {
  const void* data;  // float or double [C], or [192] read by coefficient number
  bool is_double, by_coefficient;
};

// Factors of the results by picture and output position, or null.
struct Gate {
  const void* data;  // [N, C] contiguous
  Type type;         // float or wider, or a 16-bit type
};

// Pixels to coefficients: block_dct, block_idct_backward.
template <class acc>
struct AnalysisParams {
  View pictures;  // [N, 3, H, W], H and W below 2^31 - 8
  void* result;   // [N, C, gh, gw] contiguous, or [N, gh, gw, C]
  Type result_type;
  Grid grid;
  Channels channels;
  Statistic mean, std;
  Gate gate;                // of the launch's first picture; read by launch_gated_analysis alone
  ColorMatrix<acc> matrix;  // times pixels
  acc shift;                // added to Y
  acc white;                // rounded: times pixels before the matrix, so that k / 255 is k again
  acc dct_scale[kCoefficients];  // of the DCT's outputs, v * 8 + u or u * 8 + v: it is symmetric
  Chroma chroma;
  Edge edge;
  PixelAccess access;  // to the pictures; kElements is always right
  bool rounded;        // planes and coefficients to integers
  bool times_std;      // out = c * std, else (c - mean) / std
  bool channels_last;  // the result's memory format
};

// Coefficients to pixels: block_idct, block_dct_backward.
template <class acc>
struct SynthesisParams {
  View coefficients;  // [N, C, gh, gw]
  void* result;       // [N, 3, H, W] contiguous
  Type result_type;
  int32_t height, width;  // H, W
  Grid grid;
  Channels channels;
  Statistic mean, std;
  ColorMatrix<acc> matrix;       // times planes
  acc shift;                     // added to R, G and B
  acc dct_scale[kCoefficients];  // of the transposed DCT's inputs, symmetric in v and u
  Chroma chroma;                 // k444 or k420
  Edge edge;         // pixels beyond it are added to the last one (kReplicate) or cropped (kZero)
  bool wide;         // rows of eight pixels of the result are aligned to kWideBytes
  bool times_std;    // c * std + mean, else c / std
  bool planes_only;  // the result is Y, Cb, Cr: even the unit matrix would spread a NaN (0 * NaN)
};

// The transpose of [1 6 1] / 8 smoothing, replicated edges and the 3x3 matrix.
template <class acc>
struct SmoothedAdjointParams {
  const acc* planes;  // [N, 3, 8 gh, 8 gw] contiguous: Y, Cb, Cr
  void* result;       // [N, 3, H, W] contiguous
  Type result_type;
  int64_t pixels;         // N H W
  int32_t height, width;  // H, W
  int32_t padded_height, padded_width;
  ColorMatrix<acc> matrix;
};

// Kernel parameters end at 4 KB before CUDA 12.1.
static_assert(sizeof(AnalysisParams<double>) <= 4096 && sizeof(SynthesisParams<double>) <= 4096);

}  // namespace freqops::cuda
