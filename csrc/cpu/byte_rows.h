// The horizontal DCT of rows of bytes. What the transform begins with, sums and differences of
// mirrored pixels, are integers: they are exact in 16 bits, two pixels to an instruction.
#pragma once

#include "load_tile.h"

namespace freqops::cpu {
namespace {

#if defined(__AVX2__)  // SSE2 alone cannot shuffle bytes
typedef typename VectorOf<int8_t, kVectorBytes>::type Int8s;
typedef typename VectorOf<int16_t, kVectorBytes / 2>::type Int16s;
typedef typename VectorOf<int32_t, kVectorBytes / 4>::type Int32s;

#if defined(__AVX512F__)
using Register = __m512i;
#define FREQOPS_MM(name) _mm512_##name
#else
using Register = __m256i;
#define FREQOPS_MM(name) _mm256_##name
#endif

// a[2i] b[2i] + a[2i + 1] b[2i + 1] of unsigned a and signed b
FREQOPS_INLINE Int16s pair_sums(Int8s a, Int8s b) {
  return (Int16s)FREQOPS_MM(maddubs_epi16)((Register)a, (Register)b);
}
FREQOPS_INLINE Int32s pair_sums(Int16s a, Int16s b) {
  return (Int32s)FREQOPS_MM(madd_epi16)((Register)a, (Register)b);
}
// Bytes by index within each 16 of them; an index below 0 gives 0.
FREQOPS_INLINE Int8s shuffle(Int8s a, Int8s index) {
  return (Int8s)FREQOPS_MM(shuffle_epi8)((Register)a, (Register)index);
}
#undef FREQOPS_MM

// b0 b1 b0 b1 ... ; 16 numbers over and over
template <class V, int... I>
constexpr V repeated(std::integer_sequence<int, I...>, const int8_t (&b)[16]) {
  return V{typename Element<V>::type(b[I % 16])...};
}
template <class V>
constexpr V repeated(const int8_t (&b)[16]) {
  return repeated<V>(std::make_integer_sequence<int, int(sizeof(V) / sizeof(V{}[0]))>(), b);
}
template <class V>
FREQOPS_INLINE V alternating(int even, int odd) {
  const int8_t a = int8_t(even), b = int8_t(odd);
  const int8_t both[16] = {a, b, a, b, a, b, a, b, a, b, a, b, a, b, a, b};
  return repeated<V>(both);
}

// The pixels of one row of one colour in N blocks, lane = block, each lane four bytes.
struct Mirrored {
  Int8s outer;  // x0 x7 x3 x4
  Int8s inner;  // x1 x6 x2 x5
};

// From two registers, each lane of 16 bytes two blocks as x0 x7 x3 x4 x1 x6 x2 x5.
FREQOPS_INLINE Mirrored mirrored(Int8s low, Int8s high) {
  const Int32s a = (Int32s)low, b = (Int32s)high;
  return {(Int8s)even(a, b), (Int8s)odd(a, b)};
}

FREQOPS_INLINE Mirrored mirrored_row(const uint8_t* row) {
  prefetch<2 * kVectorBytes>(row + 2 * kVectorBytes);
  const Int8s order = repeated<Int8s>({0, 7, 3, 4, 1, 6, 2, 5, 8, 15, 11, 12, 9, 14, 10, 13});
  return mirrored(shuffle(load_vector<Int8s>(row), order),
                  shuffle(load_vector<Int8s>(row + kVectorBytes), order));
}

// Lane i of the result: the 16 bytes at 48 i.
FREQOPS_INLINE Int8s load_every_third(const uint8_t* from) {
#if defined(__AVX512F__)
  // 16-byte lane i comes from a load that starts 32 i bytes on, so that it lands in place.
  __m512i v = _mm512_maskz_loadu_epi32(0x000f, from);
  v = _mm512_mask_loadu_epi32(v, 0x00f0, from + 32);
  v = _mm512_mask_loadu_epi32(v, 0x0f00, from + 64);
  return (Int8s)_mm512_mask_loadu_epi32(v, 0xf000, from + 96);
#else
  return (Int8s)_mm256_inserti128_si256(_mm256_castsi128_si256(load_vector<__m128i>(from)),
                                        load_vector<__m128i>(from + 48), 1);
#endif
}

// The order of pixels within a block: as they are, or as `mirrored` wants them.
constexpr int kAsTheyAre[kBlock] = {0, 1, 2, 3, 4, 5, 6, 7};
constexpr int kMirrored[kBlock] = {0, 7, 3, 4, 1, 6, 2, 5};

// Where byte i of 16 in that order lies for colour c: 2 blocks of 8 pixels of 3 colours are 48 bytes,
// and part `part` of 16 has it or, -1, has it not.
constexpr int8_t colour_byte(const int (&order)[kBlock], int c, int part, int i) {
  const int byte = (i / kBlock * kBlock + order[i % kBlock]) * kComponents + c - 16 * part;
  return int8_t(byte >= 0 && byte < 16 ? byte : -1);
}
template <const int (&order)[kBlock], int c, int part, int... I>
constexpr Int8s colour_order(std::integer_sequence<int, I...>) {
  return Int8s{colour_byte(order, c, part, I % 16)...};
}
template <const int (&order)[kBlock], int c, int part>
FREQOPS_INLINE Int8s pick_colour(Int8s bytes) {
  constexpr auto all = std::make_integer_sequence<int, int(sizeof(Int8s))>();
  return shuffle(bytes, colour_order<order, c, part>(all));
}
template <const int (&order)[kBlock], int c>
FREQOPS_INLINE Int8s pick_colour(const Int8s (&parts)[3]) {
  return pick_colour<order, c, 0>(parts[0]) | pick_colour<order, c, 1>(parts[1]) |
         pick_colour<order, c, 2>(parts[2]);
}

// A register of each colour from the interleaved bytes of kVectorBytes pixels.
template <const int (&order)[kBlock]>
FREQOPS_INLINE void split_colours(const uint8_t* from, Int8s (&out)[kComponents]) {
  const Int8s parts[] = {load_every_third(from), load_every_third(from + 16),
                         load_every_third(from + 32)};
  out[0] = pick_colour<order, 0>(parts);
  out[1] = pick_colour<order, 1>(parts);
  out[2] = pick_colour<order, 2>(parts);
}

FREQOPS_INLINE void mirrored_colours(const uint8_t* row, Mirrored (&out)[kComponents]) {
  constexpr int bytes = 2 * kComponents * kVectorBytes;
  prefetch<bytes>(row + bytes);
  Int8s halves[2][kComponents];
  for (int i = 0; i < 2; ++i)
    split_colours<kMirrored>(row + i * kComponents * kVectorBytes, halves[i]);
  for (int c = 0; c < kComponents; ++c) out[c] = mirrored(halves[0][c], halves[1][c]);
}

FREQOPS_INLINE Vec<float> widen(Int32s x) { return __builtin_convertvector(x, Vec<float>); }

// F_u of dct8 for u < kept. With s_i = x_i + x_(7-i), d_i = x_i - x_(7-i), k = cos(pi / 4):
//   F_0 = s0 + s1 + s2 + s3         F_2 = (1 + k) (s0 - s3) + k (s1 - s2)
//   F_4 = s0 - s1 - s2 + s3         F_6 = (1 - k) (s0 - s3) - k (s1 - s2)
//   F_u = 2 cos(u pi / 16) sum_i d_i cos((2i + 1) u pi / 16), u odd
template <int kept>
FREQOPS_INLINE void dct8_bytes(const Mirrored& x, Vec<float> (&out)[kBlock]) {
  const Int8s plus = alternating<Int8s>(1, 1), minus = alternating<Int8s>(1, -1);
  const Int16s sum = alternating<Int16s>(1, 1), difference = alternating<Int16s>(1, -1);
  const Int16s s03 = pair_sums(x.outer, plus), s12 = pair_sums(x.inner, plus);
  out[0] = widen(pair_sums(s03 + s12, sum));
  if (kept > 4) out[4] = widen(pair_sums(s03 - s12, sum));
  if (kept > 2) {
    constexpr float k = float(detail::kCos4), above = float(1 + detail::kCos4),
                    below = float(1 - detail::kCos4);
    const Vec<float> a = widen(pair_sums(s03, difference)), b = widen(pair_sums(s12, difference));
    out[2] = a * above + b * k;
    if (kept > 6) out[6] = a * below - b * k;
  }
  if (kept > 1) {
    const Int16s first = alternating<Int16s>(1, 0), second = alternating<Int16s>(0, 1);
    const Int16s d03 = pair_sums(x.outer, minus), d12 = pair_sums(x.inner, minus);
    const Vec<float> d0 = widen(pair_sums(d03, first)), d3 = widen(pair_sums(d03, second));
    const Vec<float> d1 = widen(pair_sums(d12, first)), d2 = widen(pair_sums(d12, second));
    for (int u = 1; u < kept; u += 2) {
      const auto& w = detail::kOdd[u / 2];
      out[u] = d0 * float(w[0]) + (d1 * float(w[1]) + (d2 * float(w[2]) + d3 * float(w[3])));
    }
  }
}

// The same of pairs of pixels that hold their mean, summed over two rows: x0 = x1, x2 = x3, ...
struct PairSums {
  Int16s even;  // x0 + x1 + x6 + x7, x2 + x3 + x4 + x5
  Int16s odd;   // x0 + x1 - x6 - x7, x3 + x2 - x4 - x5
};
FREQOPS_INLINE PairSums sums_of_pairs(const Mirrored& x) {
  const Int8s plus = alternating<Int8s>(1, 1), minus = alternating<Int8s>(1, -1);
  return {pair_sums(x.outer, plus) + pair_sums(x.inner, plus),
          pair_sums(x.outer, minus) + pair_sums(x.inner, minus)};
}
template <int kept>
FREQOPS_INLINE void dct8_pairs(const PairSums& above, const PairSums& below,
                               Vec<float> (&out)[kBlock]) {
  const Int16s even = above.even + below.even, odd = above.odd + below.odd;
  const Int16s sum = alternating<Int16s>(1, 1), difference = alternating<Int16s>(1, -1);
  constexpr double k = detail::kCos4;
  // Each sum is of four pixels, that is four means, and the means stand in two columns.
  out[0] = widen(pair_sums(even, sum)) * .5f;
  if (kept > 2) out[2] = widen(pair_sums(even, difference)) * float(.25 * (1 + 2 * k));
  if (kept > 4) out[4] = Vec<float>{};
  if (kept > 6) out[6] = widen(pair_sums(even, difference)) * float(.25 * (1 - 2 * k));
  if (kept > 1) {
    const Vec<float> a = widen(pair_sums(odd, alternating<Int16s>(1, 0)));
    const Vec<float> b = widen(pair_sums(odd, alternating<Int16s>(0, 1)));
    for (int u = 1; u < kept; u += 2) {
      const auto& w = detail::kOdd[u / 2];
      out[u] = a * float(.25 * (w[0] + w[1])) + b * float(.25 * (w[2] + w[3]));
    }
  }
}

#endif

}  // namespace
}  // namespace freqops::cpu
