// RGB and YCbCr, the full-range BT.601 colours of JPEG files, without the +128 of Cb and Cr:
//
//   Y  = .299 R + .587 G + .114 B,   Cb = (B - Y) / 1.772,   Cr = (R - Y) / 1.402
//
// A ColorMatrix is applied to column vectors: out[k] = sum_j m[k][j] in[j].
#pragma once

namespace freqops {

template <class acc>
struct ColorMatrix {
  acc m[3][3];
};

constexpr double kRgbToYcbcr[3][3] = {
    {.299, .587, .114}, {-.299 / 1.772, -.587 / 1.772, .5}, {.5, -.587 / 1.402, -.114 / 1.402}};

constexpr double kYcbcrToRgb[3][3] = {
    {1, 0, 1.402}, {1, -.114 * 1.772 / .587, -.299 * 1.402 / .587}, {1, 1.772, 0}};

// libjpeg's 16-bit integers for kRgbToYcbcr, used where planes are rounded: on 8-bit pictures every
// product and sum is an integer below 2^24, so float32 gives the planes of a JPEG encoder exactly.
constexpr double kRgbToYcbcrJpeg[3][3] = {{19595 / 65536., 38470 / 65536., 7471 / 65536.},
                                          {-11058 / 65536., -21710 / 65536., 32768 / 65536.},
                                          {32768 / 65536., -27439 / 65536., -5329 / 65536.}};

constexpr double kLevelShift = 128;  // subtracted from Y; Cb and Cr are centred as defined above
constexpr double kWhite = 255;       // floating-point pictures hold pixel / kWhite

// factor * matrix, or factor * its transpose.
template <class acc>
inline ColorMatrix<acc> color_matrix(const double (&matrix)[3][3], double factor,
                                     bool transposed = false) {
  ColorMatrix<acc> out;
  for (int k = 0; k < 3; ++k)
    for (int j = 0; j < 3; ++j)
      out.m[k][j] = acc(factor * (transposed ? matrix[j][k] : matrix[k][j]));
  return out;
}

}  // namespace freqops
