// Half way to coefficients: the first one-dimensional DCT of a tile, [line * 8 + i] with lane =
// block. The three colours are transformed and then mixed, since most lines are often not wanted.
#pragma once

#include "byte_rows.h"
#include "chroma.h"
#include "columns.h"
#include "split_rows.h"

namespace freqops::cpu {
namespace {

// Columns 0 ... kept - 1 of row y of the components first ... last - 1 from those of the colours.
template <int kept, class acc>
FREQOPS_INLINE void mix_columns(const Analysis<acc>& p, const Mix<acc>& mix, int first, int last,
                                int y, const Vec<acc> (&colours)[kComponents][kBlock],
                                Planes<acc>& half) {
  for (int k = first; k < last; ++k) {
#pragma GCC unroll 8
    for (int u = 0; u < kept; ++u) {
      if (u >= p.lines[k]) break;
      Vec<acc> x = mix.component(k, colours[0][u], colours[1][u], colours[2][u]);
      if (k == 0 && u == 0) x += mix.shift;
      half[k][u * kBlock + y] = x;
    }
  }
}

#if defined(__AVX2__)
FREQOPS_INLINE void mirrored_row(const Rows<uint8_t>& rows, int y, Mirrored (&out)[kComponents]) {
  if (rows.interleaved) return mirrored_colours(rows.row(0, y), out);
  for (int c = 0; c < kComponents; ++c) out[c] = mirrored_row(rows.row(c, y));
}

// Where every row is what it is.
template <int kept>
__attribute__((noinline)) void half_of_bytes(const Analysis<float>& p, const Rows<uint8_t>& rows,
                                             Planes<float>& half) {
  const Mix<float> mix(p, kBlock * p.shift);
  for (int y = 0; y < kBlock; ++y) {
    Mirrored pixels[kComponents];
    Vec<float> colours[kComponents][kBlock];
    mirrored_row(rows, y, pixels);
    for (int c = 0; c < kComponents; ++c) dct8_bytes<kept>(pixels[c], colours[c]);
    mix_columns<kept>(p, mix, 0, kComponents, y, colours, half);
  }
}

// Where Cb and Cr hold 2x2 means.
template <int kept>
__attribute__((noinline)) void half_of_bytes_420(const Analysis<float>& p,
                                                 const Rows<uint8_t>& rows, Planes<float>& half) {
  const Mix<float> mix(p, kBlock * p.shift);
  for (int y = 0; y < kBlock; y += 2) {
    PairSums sums[2][kComponents];
    Vec<float> colours[kComponents][kBlock];
    for (int i = 0; i < 2; ++i) {
      Mirrored pixels[kComponents];
      mirrored_row(rows, y + i, pixels);
      for (int c = 0; c < kComponents; ++c) {
        sums[i][c] = sums_of_pairs(pixels[c]);
        dct8_bytes<kept>(pixels[c], colours[c]);
      }
      mix_columns<kept>(p, mix, 0, 1, y + i, colours, half);
    }
    for (int c = 0; c < kComponents; ++c) dct8_pairs<kept>(sums[0][c], sums[1][c], colours[c]);
    for (int i = 0; i < 2; ++i) mix_columns<kept>(p, mix, 1, kComponents, y + i, colours, half);
  }
}
#endif

// Bytes where vectors cannot shuffle them, and where sums are double.
template <int kept, class acc, class T>
__attribute__((noinline)) void half_of_rows(const Analysis<acc>& p, const Rows<T>& rows,
                                            Planes<acc>& half) {
  const Mix<acc> mix(p, kBlock * p.shift);
  for (int y = 0; y < kBlock; ++y) {
    Vec<acc> colours[kComponents][kBlock];
    row_to_lanes<acc>(rows, y, colours);
    for (int c = 0; c < kComponents; ++c) dct8<acc>(colours[c]);
    mix_columns<kept>(p, mix, 0, kComponents, y, colours, half);
  }
}

// Of planes of pixels, where they are rounded or smoothed.
template <int kept, class acc>
__attribute__((noinline)) void half_of_plane(const Vec<acc> (&plane)[kCoefficients],
                                             Vec<acc> (&half)[kCoefficients]) {
  for (int y = 0; y < kBlock; ++y) {
    Vec<acc> x[kBlock];
    for (int i = 0; i < kBlock; ++i) x[i] = plane[y * kBlock + i];
    dct8<acc>(x);
    for (int u = 0; u < kept; ++u) half[u * kBlock + y] = x[u];
  }
}

template <class acc, class T>
__attribute__((noinline)) void half_way(const Analysis<acc>& p, const Tile& tile,
                                        Planes<acc>& half) {
  constexpr bool bytes = std::is_same_v<T, uint8_t>;
  alignas(64) Staged<acc, T> staged, split;
  Rows<T> rows;
  rows.frame = p.columns_first && p.chroma == Chroma::kDctnet;
  find_rows(p, tile, staged, &rows);
  if (rows.interleaved && (p.columns_first || !bytes)) split_rows<acc>(split, &rows);
  int most = 1;  // lines of any component
  for (const int lines : p.lines) most = lines > most ? lines : most;

  if (p.columns_first)
    return with_count(most, [&](auto kept) {
      if (bytes || rows.frame) return half_of_columns_smoothed<kept, acc>(p, tile, rows, half);
      if constexpr (!bytes) half_of_columns<kept, acc>(p, rows, half);
    });
  if constexpr (bytes) {
#if defined(__AVX2__)
    constexpr bool integers = std::is_same_v<acc, float>;
#else
    constexpr bool integers = false;
#endif
    if (!p.jpeg && p.chroma == Chroma::k444)
      return with_count(most, [&](auto kept) {
#if defined(__AVX2__)
        if constexpr (integers) return half_of_bytes<kept>(p, rows, half);
#endif
        if constexpr (!integers) half_of_rows<kept, acc>(p, rows, half);
      });
#if defined(__AVX2__)
    if constexpr (integers)
      if (!p.jpeg && p.chroma == Chroma::k420)
        return with_count(most, [&](auto kept) { half_of_bytes_420<kept>(p, rows, half); });
#endif
  }

  Planes<acc> planes;
  load_planes<acc>(p, rows, planes);
  smooth<acc, T>(p, tile, planes);
  for (int k = 0; k < kComponents; ++k)
    if (p.lines[k] > 0)
      with_count(p.lines[k], [&](auto kept) { half_of_plane<kept, acc>(planes[k], half[k]); });
}

template <class acc>
void half_way_any(const Analysis<acc>& p, const Tile& tile, Planes<acc>& half) {
  switch (p.in.type) {
    case Type::kUint8: return half_way<acc, uint8_t>(p, tile, half);
    case Type::kHalf: return half_way<acc, Half>(p, tile, half);
    case Type::kBfloat16: return half_way<acc, BFloat16>(p, tile, half);
    case Type::kFloat: return half_way<acc, float>(p, tile, half);
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return half_way<acc, double>(p, tile, half);
  }
}

}  // namespace
}  // namespace freqops::cpu
