// A tile: N = kLanes<acc> consecutive blocks of one picture, in raster order of its grid, crossing
// the ends of block rows. So a vector of results is N contiguous elements of a channel's plane.
#pragma once

#include <type_traits>

#include "../plan.h"
#include "simd.h"

namespace freqops::cpu {
namespace {

FREQOPS_INLINE constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

struct Tile {
  int64_t n;      // picture
  int64_t block;  // the first block, by * grid_w + bx
  int64_t by, bx;
  int count;  // blocks, fewer than N at the end of a picture
};

template <class acc>
FREQOPS_INLINE int64_t tiles(int64_t grid) {
  return (grid + kLanes<acc> - 1) / kLanes<acc>;
}

template <class acc>
FREQOPS_INLINE Tile tile_at(int64_t index, int64_t grid_h, int64_t grid_w) {
  const int64_t grid = grid_h * grid_w, per_picture = tiles<acc>(grid);
  Tile t;
  t.n = index / per_picture;
  t.block = index % per_picture * kLanes<acc>;
  t.by = t.block / grid_w;
  t.bx = t.block % grid_w;
  const int64_t left = grid - t.block;
  t.count = int(smaller(left, kLanes<acc>));
  return t;
}

// Where a tile goes on in the next block row. Of a row of its 8 N pixels in memory, vectors from `at`
// on lie `jump` elements further than behind the ones before.
struct Seam {
  bool between_vectors;  // no vector is cut, and the tile has two block rows at most
  int at;                // 8 for none
  int rows;              // block rows: 1 or 2
  int64_t jump;
};

template <class acc>
FREQOPS_INLINE Seam seam_of(const Tile& tile, int64_t grid_w, int64_t stride_h) {
  constexpr int N = kLanes<acc>;
  const int64_t first = grid_w - tile.bx;  // blocks in the first row
  if (first >= N) return {true, kBlock, 1, 0};
  const bool between = first * kBlock % N == 0 && N - first <= grid_w;
  return {between, int(first * kBlock / N), 2, kBlock * stride_h - grid_w * kBlock};
}

// Some consecutive blocks of one picture, whole tiles but for its end.
struct Group {
  int64_t n, block;
  int count;
};

FREQOPS_INLINE int64_t groups(int64_t grid, int64_t blocks) { return (grid + blocks - 1) / blocks; }

FREQOPS_INLINE Group group_at(int64_t index, int64_t grid, int64_t blocks) {
  const int64_t per_picture = groups(grid, blocks), block = index % per_picture * blocks;
  return {index / per_picture, block, int(smaller(grid - block, blocks))};
}

// Tile g of a group.
template <class acc>
FREQOPS_INLINE Tile tile_in(const Group& group, int g, int64_t grid_w) {
  const int64_t block = group.block + g * kLanes<acc>;
  const int left = group.count - g * kLanes<acc>;
  return {group.n, block, block / grid_w, block % grid_w, int(smaller(left, kLanes<acc>))};
}

// f with the number 1 ... 8 as a template argument.
template <class F>
FREQOPS_INLINE void with_count(int count, const F& f) {
  switch (count) {
    case 1: return f(std::integral_constant<int, 1>());
    case 2: return f(std::integral_constant<int, 2>());
    case 3: return f(std::integral_constant<int, 3>());
    case 4: return f(std::integral_constant<int, 4>());
    case 5: return f(std::integral_constant<int, 5>());
    case 6: return f(std::integral_constant<int, 6>());
    case 7: return f(std::integral_constant<int, 7>());
    case 8: return f(std::integral_constant<int, 8>());
  }
}

}  // namespace
}  // namespace freqops::cpu
