// Chroma smoothing of planes of pixels, lane = block: 2x2 means, and where pixels are rounded. What
// smooths unrounded pixels across blocks is in columns.h.
#pragma once

#include "load_tile.h"

namespace freqops::cpu {
namespace {

// 2x2 means, replicated: local to a block.
template <class acc>
void smooth_420(bool jpeg, Vec<acc> (&plane)[kCoefficients]) {
  for (int y = 0; y < kBlock; y += 2) {
    for (int x = 0; x < kBlock; x += 2) {
      Vec<acc>* corner = plane + y * kBlock + x;
      Vec<acc> mean = ((corner[0] + corner[1]) + (corner[kBlock] + corner[kBlock + 1])) * acc(.25);
      if (jpeg) mean = round_even<acc>(mean);
      corner[0] = corner[1] = corner[kBlock] = corner[kBlock + 1] = mean;
    }
  }
}

// The rounded planes at pixel (y, x), each lane's counted from its own block, replicated at the picture's
// (padded) edges. -1 <= x, y <= 8.
template <class acc, class T>
__attribute__((noinline)) void planes_at(const Analysis<acc>& p, const Tile& tile, int y, int x,
                                         Vec<acc> (&out)[kComponents]) {
  const View& in = p.in;
  const T* picture = static_cast<const T*>(in.data) + tile.n * in.stride_n;
  T colours[kComponents][kLanes<acc>] = {};
  int64_t by = tile.by, bx = tile.bx;
  for (int lane = 0; lane < tile.count; ++lane) {
    int64_t row = smaller(by * kBlock + y, in.height - 1);
    int64_t column = smaller(bx * kBlock + x, in.width - 1);
    if (row < 0) row = 0;
    if (column < 0) column = 0;
    for (int c = 0; c < kComponents; ++c)
      colours[c][lane] = picture[c * in.stride_c + row * in.stride_h + column * in.stride_w];
    if (++bx == p.grid_w) bx = 0, ++by;
  }
  const Vec<acc> r = load<acc>(colours[0]), g = load<acc>(colours[1]), b = load<acc>(colours[2]);
  Mix<acc>(p, p.shift).template apply<true>(r, g, b, out);
}

// [1 6 1] / 8 of rounded pixels in both directions; the frame of one pixel around each block comes
// from the picture.
template <class acc, class T>
__attribute__((noinline)) void smooth_dctnet(const Analysis<acc>& p, const Tile& tile,
                                             Planes<acc>& planes) {
  constexpr int size = kBlock + 2;
  Vec<acc> wide[2][size][size];
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const bool inside = y >= 1 && y <= kBlock && x >= 1 && x <= kBlock;
      if (inside) {
        for (int k = 0; k < 2; ++k) wide[k][y][x] = planes[k + 1][(y - 1) * kBlock + x - 1];
      } else {
        Vec<acc> frame[kComponents];
        planes_at<acc, T>(p, tile, y - 1, x - 1, frame);
        for (int k = 0; k < 2; ++k) wide[k][y][x] = frame[k + 1];
      }
    }
  }
  for (int k = 0; k < 2; ++k) {
    for (int x = 0; x < size; ++x) {
      for (int y = 0; y < kBlock; ++y)
        wide[k][y][x] = wide[k][y][x] + wide[k][y + 2][x] + wide[k][y + 1][x] * acc(6);
    }
    for (int y = 0; y < kBlock; ++y) {
      for (int x = 0; x < kBlock; ++x) {
        const Vec<acc>* at = wide[k][y] + x;
        const Vec<acc> mean = (at[0] + at[2] + at[1] * acc(6)) * acc(1. / 64);
        planes[k + 1][y * kBlock + x] = round_even<acc>(mean);
      }
    }
  }
}

template <class acc, class T>
void smooth(const Analysis<acc>& p, const Tile& tile, Planes<acc>& planes) {
  if (p.chroma == Chroma::k420) {
    smooth_420<acc>(p.jpeg, planes[1]);
    smooth_420<acc>(p.jpeg, planes[2]);
  } else if (p.chroma == Chroma::kDctnet) {
    smooth_dctnet<acc, T>(p, tile, planes);
  }
}

}  // namespace
}  // namespace freqops::cpu
