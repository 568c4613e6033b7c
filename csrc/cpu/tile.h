// A tile: N = kLanes<acc> consecutive blocks of one picture, in raster order of its grid, crossing
// the ends of block rows. So a vector of results is N contiguous elements of a channel's plane.
#pragma once

#include <type_traits>

#include "../plan.h"
#include "simd.h"

namespace freqops::cpu {
namespace {

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
  t.count = left < kLanes<acc> ? int(left) : kLanes<acc>;
  return t;
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

FREQOPS_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace
}  // namespace freqops::cpu
