// The 8-point DCT-II, after Arai, Agui and Nakajima (Trans. IEICE E71, 1988): 5 multiplications and
// 29 additions, with the scale of each output left to the caller.
//
//   X_k = kScale[k] * F_k(x),   X_k = a_k sum_i x_i cos((2i + 1) k pi / 16),   a_0 = sqrt(1/8), else 1/2
//   kScale[0] = 1 / sqrt(8),    kScale[k] = 1 / (4 cos(k pi / 16))
//
// So D = S F with S = diag(kScale), and the inverse, which is the transpose, is F^T S. In two
// dimensions the scale is kScale[v] * kScale[u]; it merges with the normalisation of the channel.
// V is float, double or a vector of them: anything with +, - and *.
#pragma once

#include "host_device.h"

namespace freqops {

constexpr int kBlock = 8;                               // rows and columns of a block
constexpr int kCoefficients = kBlock * kBlock;          // of one component
constexpr int kComponents = 3;                          // Y, Cb, Cr
constexpr int kChannels = kComponents * kCoefficients;  // of a picture

// kScale[k]: 1/sqrt(8), then 1 / (4 cos(k pi / 16)). A function, so that device code can fold it.
FREQOPS_HOST_DEVICE constexpr double dct8_scale(int k) {
  constexpr double kScale[kBlock] = {0.35355339059327376220, 0.25489778955207958447,
                                     0.27059805007309849220, 0.30067244346752264027,
                                     0.35355339059327376220, 0.44998811156820785231,
                                     0.65328148243818826393, 1.28145772387075308943};
  return kScale[k];
}

namespace detail {
constexpr double kCos4 = 0.70710678118654752440;  // cos(4 pi / 16)
constexpr double kCos6 = 0.38268343236508977173;  // cos(6 pi / 16)
constexpr double kDiff = 0.54119610014619698440;  // cos(2 pi / 16) - cos(6 pi / 16)
constexpr double kSum = 1.30656296487637652786;   // cos(2 pi / 16) + cos(6 pi / 16)
constexpr double kCos2 = kDiff + kCos6;           // cos(2 pi / 16)
// F_u = sum_i kOdd[u / 2][i] (x_i - x_(7-i)) for odd u: 2 cos(u pi / 16) cos((2i + 1) u pi / 16), which
// is cos(2i u pi / 16) + cos((2i + 2) u pi / 16)
constexpr double kOdd[kBlock / 2][kBlock / 2] = {{1 + kCos2, kCos2 + kCos4, kCos4 + kCos6, kCos6},
                                                 {1 + kCos6, kCos6 - kCos4, -kCos4 - kCos2, -kCos2},
                                                 {1 - kCos6, -kCos6 - kCos4, kCos2 - kCos4, kCos2},
                                                 {1 - kCos2, kCos4 - kCos2, kCos4 - kCos6, -kCos6}};
}  // namespace detail

// x := F x. Outputs that the caller does not use cost nothing: the compiler drops their sums.
template <class acc, class V>
FREQOPS_HOST_DEVICE void dct8(V (&x)[kBlock]) {
  const V s0 = x[0] + x[7], d0 = x[0] - x[7];
  const V s1 = x[1] + x[6], d1 = x[1] - x[6];
  const V s2 = x[2] + x[5], d2 = x[2] - x[5];
  const V s3 = x[3] + x[4], d3 = x[3] - x[4];

  const V e0 = s0 + s3, e3 = s0 - s3;
  const V e1 = s1 + s2, e2 = s1 - s2;
  const V z1 = (e2 + e3) * acc(detail::kCos4);
  x[0] = e0 + e1;
  x[4] = e0 - e1;
  x[2] = e3 + z1;
  x[6] = e3 - z1;

  const V o0 = d3 + d2, o1 = d2 + d1, o2 = d1 + d0;
  const V z5 = (o0 - o2) * acc(detail::kCos6);
  const V z2 = o0 * acc(detail::kDiff) + z5;
  const V z4 = o2 * acc(detail::kSum) + z5;
  const V z3 = o1 * acc(detail::kCos4);
  const V p = d0 + z3, q = d0 - z3;
  x[5] = q + z2;
  x[3] = q - z2;
  x[1] = p + z4;
  x[7] = p - z4;
}

// x := F^T x, the flow graph of dct8 read backwards.
template <class acc, class V>
FREQOPS_HOST_DEVICE void dct8_transposed(V (&x)[kBlock]) {
  const V e0 = x[0] + x[4], e1 = x[0] - x[4];
  const V z1 = (x[2] - x[6]) * acc(detail::kCos4);
  const V e3 = x[2] + x[6] + z1;
  const V s0 = e0 + e3, s3 = e0 - e3;
  const V s1 = e1 + z1, s2 = e1 - z1;

  const V q = x[5] + x[3], z2 = x[5] - x[3];
  const V p = x[1] + x[7], z4 = x[1] - x[7];
  const V z5 = (z2 + z4) * acc(detail::kCos6);
  const V o0 = z2 * acc(detail::kDiff) + z5;
  const V o2 = z4 * acc(detail::kSum) - z5;
  const V o1 = (p - q) * acc(detail::kCos4);
  const V d3 = o0, d2 = o0 + o1, d1 = o1 + o2, d0 = p + q + o2;

  x[0] = s0 + d0;
  x[7] = s0 - d0;
  x[1] = s1 + d1;
  x[6] = s1 - d1;
  x[2] = s2 + d2;
  x[5] = s2 - d2;
  x[3] = s3 + d3;
  x[4] = s3 - d3;
}

}  // namespace freqops
