// The vertical DCT of a tile, in rows of pixels as they lie in memory. What is wanted of the result is
// then turned to lanes.
#pragma once

#include "load_tile.h"

namespace freqops::cpu {
namespace {

// Row v of component k from those of the colours [c][v][i], turned to lanes.
template <int kept, int vectors, class acc>
FREQOPS_INLINE void mix_line(const Mix<acc>& mix, int k, int v,
                             const Vec<acc> (&colours)[kComponents][kept][vectors],
                             Planes<acc>& half) {
  Vec<acc> x[kBlock];
  for (int i = 0; i < kBlock; ++i) {
    x[i] = mix.component(k, colours[0][v][i], colours[1][v][i], colours[2][v][i]);
    if (k == 0 && v == 0) x[i] += mix.shift;
  }
  rows_to_lanes(x);
  for (int i = 0; i < kBlock; ++i) half[k][v * kBlock + i] = x[i];
}

constexpr int kAhead = 4;  // vectors from one that is read to one that is asked for

template <int kept, class acc, class T>
__attribute__((noinline)) void half_of_columns(const Analysis<acc>& p, const Rows<T>& rows,
                                               Planes<acc>& half) {
  constexpr int N = kLanes<acc>;
  Vec<acc> colours[kComponents][kept][kBlock];
  for (int c = 0; c < kComponents; ++c) {
    for (int i = 0; i < kBlock; ++i) {
      const int64_t at = i * N + (i < rows.seam.at ? 0 : rows.seam.jump);
      Vec<acc> x[kBlock];
      for (int y = 0; y < kBlock; ++y) {
        x[y] = load<acc>(rows.row(c, y) + at);
        prefetch<1>(rows.row(c, y) + at + kAhead * N);
      }
      dct8<acc>(x);
      for (int v = 0; v < kept; ++v) colours[c][v][i] = x[v];
    }
  }
  const Mix<acc> mix(p, kBlock * p.shift);
  for (int k = 0; k < kComponents; ++k)
    for (int v = 0; v < p.lines[k]; ++v) mix_line(mix, k, v, colours, half);
}

// The same with Cb and Cr smoothed by [1 6 1] / 8 down the columns and along the rows. Of a column
// that is continued by its own ends, -1 by 0 and 8 by 7, smoothing multiplies F_v by
// (3 + cos(v pi / 8)) / 4; what pixels -1 and 8 are above that, e and f, adds
// cos^2(v pi / 16) / 4 (e + (-1)^v f), for v = 0 half of it, and cos^2(t / 2) = (1 + cos t) / 2.
constexpr double cos_eighth(int v) {  // cos(v pi / 8), v < 8
  constexpr double kCos[] = {1, detail::kCos2, detail::kCos4, detail::kCos6, 0};
  return v <= 4 ? kCos[v] : -kCos[8 - v];
}
constexpr double smoothed(int v) { return (3 + cos_eighth(v)) / 4; }
constexpr double beyond(int v) { return (1 + cos_eighth(v)) / (v == 0 ? 16 : 8); }

// Pixels -1 and 8 N of every row of a tile, in lanes 0 and 1, from the blocks beside it; where there
// are none, any.
template <class acc, class T>
struct Beside {
  T at[kComponents][kRows][kLanes<acc>];

  Beside(const Analysis<acc>& p, const Tile& tile, const Tile& last) : at{} {
    const View& in = p.in;
    const int64_t left = tile.bx * kBlock - 1, right = (last.bx + 1) * kBlock;
    const T* picture = corner<T>(in, tile.n, 0, 0);
    const T* column[] = {picture + (left < 0 ? 0 : left) * in.stride_w,
                         picture + smaller(right, in.width - 1) * in.stride_w};
    const int64_t top[] = {tile.by * kBlock, last.by * kBlock};
    for (int c = 0; c < kComponents; ++c)
      for (int y = -1; y <= kBlock; ++y)
        for (int side = 0; side < 2; ++side)
          at[c][y + 1][side] =
              column[side][c * in.stride_c + within(top[side] + y, in) * in.stride_h];
  }
};

// a[-1], a[0], ... and a[1], a[2], ...: lanes moved by one, the free one filled with lane 0 or 1 of b.
template <class V, int... I>
FREQOPS_INLINE V lanes_before(V a, V b, std::integer_sequence<int, I...>) {
  return pick(a, b, std::integer_sequence<int, (I == 0 ? int(sizeof...(I)) : I - 1)...>());
}
template <class V, int... I>
FREQOPS_INLINE V lanes_after(V a, V b, std::integer_sequence<int, I...>) {
  constexpr int n = sizeof...(I);
  return pick(a, b, std::integer_sequence<int, (I == n - 1 ? n + 1 : I + 1)...>());
}

template <int kept, class acc, class T>
__attribute__((noinline)) void half_of_columns_smoothed(const Analysis<acc>& p, const Tile& tile,
                                                        const Rows<T>& rows, Planes<acc>& half) {
  constexpr int N = kLanes<acc>, vectors = kBlock + 1;
  constexpr auto lanes = std::make_integer_sequence<int, N>();
  typedef decltype(Vec<acc>{} < Vec<acc>{}) Mask;
  Mask at_left = {}, at_right = {};
  Tile last = tile;
  for (int lane = 0; lane < N; ++lane) {
    at_left[lane] = -(last.bx == 0);
    at_right[lane] = -(last.bx + 1 == p.grid_w);
    if (lane + 1 >= tile.count) continue;
    if (++last.bx == p.grid_w) last.bx = 0, ++last.by;
  }
  const Beside<acc, T> beside(p, tile, last);

  // Differences across the upper and the lower edge, as their sum and difference, and the columns.
  Vec<acc> colours[kComponents][kept][vectors], across[2][kComponents][vectors];
  for (int c = 0; c < kComponents; ++c) {
    for (int i = 0; i < vectors; ++i) {
      Vec<acc> x[kRows];
      for (int y = -1; y <= kBlock; ++y) {
        const T* from = i < kBlock ? rows.row(c, y) + i * N : beside.at[c][y + 1];
        x[y + 1] = load<acc>(from);
        prefetch<1>(from + kAhead * N);
      }
      const Vec<acc> above = x[0] - x[1], below = x[kBlock + 1] - x[kBlock];
      across[0][c][i] = above + below;
      across[1][c][i] = above - below;
      Vec<acc> inner[kBlock];
      for (int y = 0; y < kBlock; ++y) inner[y] = x[y + 1];
      dct8<acc>(inner);
      for (int v = 0; v < kept; ++v) colours[c][v][i] = inner[v];
    }
  }
  const Mix<acc> mix(p, kBlock * p.shift);
  for (int v = 0; v < p.lines[0]; ++v) mix_line(mix, 0, v, colours, half);
  for (int k = 1; k < kComponents; ++k) {
    Vec<acc> edge[2][vectors];
    for (int odd = 0; odd < 2; ++odd)
      for (int i = 0; i < vectors; ++i)
        edge[odd][i] = mix.component(k, across[odd][0][i], across[odd][1][i], across[odd][2][i]);
    for (int v = 0; v < p.lines[k]; ++v) {
      // In units of 1 / 8, which the rows divide by.
      const acc kept_share = acc(smoothed(v) / 8), added = acc(beyond(v) / 8);
      Vec<acc> x[kBlock], edges;
      for (int i = 0; i < vectors; ++i) {
        const Vec<acc> sum =
            mix.component(k, colours[0][v][i], colours[1][v][i], colours[2][v][i]) * kept_share +
            edge[v % 2][i] * added;
        if (i < kBlock)
          x[i] = sum;
        else
          edges = sum;
      }
      rows_to_lanes(x);
      const Vec<acc> left = at_left ? x[0] : lanes_before(x[kBlock - 1], edges, lanes);
      const Vec<acc> right = at_right ? x[kBlock - 1] : lanes_after(x[0], edges, lanes);
      Vec<acc>* line = half[k] + v * kBlock;
      for (int i = 0; i < kBlock; ++i)
        line[i] = x[i] * acc(6) + ((i > 0 ? x[i - 1] : left) + (i + 1 < kBlock ? x[i + 1] : right));
    }
  }
}

}  // namespace
}  // namespace freqops::cpu
