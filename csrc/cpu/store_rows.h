// Plane rows of a tile -> colours -> picture.
#pragma once

#include "convert.h"
#include "params.h"
#include "tile.h"

namespace freqops::cpu {
namespace {

// The planes of a tile by rows: row y of component k holds the 8 N pixels at plane[k] + y * pitch.
template <class acc>
struct PlaneRows {
  const acc* plane[kComponents];
  int64_t pitch;
};

// colours[c][y][8 N]
template <class acc>
using ColourRows = acc[kComponents][kBlock][kBlock * kLanes<acc>];

template <class acc>
FREQOPS_INLINE void unmix(const Synthesis<acc>& p, const PlaneRows<acc>& rows, int64_t at,
                          Vec<acc> (&out)[kComponents]) {
  Vec<acc> in[kComponents];
  for (int k = 0; k < kComponents; ++k) in[k] = load<acc>(rows.plane[k] + at);
  for (int c = 0; c < kComponents; ++c) {
    const auto& m = p.matrix[c];
    out[c] = m[0] * in[0] + (m[1] * in[1] + (m[2] * in[2] + p.shift));
  }
}

// Adds the pixels beyond the picture's edges to its last column and row.
template <class acc>
void fold_block(ColourRows<acc>& colours, int lane, int columns, int rows) {
  for (auto& colour : colours) {
    for (int y = 0; y < kBlock; ++y) {
      acc* row = colour[y] + lane * kBlock;
      for (int x = columns; x < kBlock; ++x) row[columns - 1] += row[x];
    }
    for (int y = rows; y < kBlock; ++y)
      for (int x = 0; x < columns; ++x)
        colour[rows - 1][lane * kBlock + x] += colour[y][lane * kBlock + x];
  }
}

template <class acc, class T>
FREQOPS_INLINE void store_run(T* to, const acc* from, int count) {
  int i = 0;
  for (; i + kLanes<acc> <= count; i += kLanes<acc>) store<acc>(to + i, load<acc>(from + i));
  if (i < count) store_some<acc>(to + i, load_some<acc>(from + i, count - i), count - i);
}

// Runs of blocks within a block row, cut at the picture's edges.
template <class acc, class T>
void store_clipped(const Synthesis<acc>& p, const Tile& tile, ColourRows<acc>& colours) {
  const View& out = p.out;
  int64_t by = tile.by, bx = tile.bx;
  for (int lane = 0; lane < tile.count;) {
    const int run = int(smaller(tile.count - lane, p.in.width - bx));
    const int64_t left = out.width - bx * kBlock, below = out.height - by * kBlock;
    const int columns = int(smaller(left, run * kBlock)), rows = int(smaller(below, kBlock));
    if (columns > 0 && rows > 0) {
      if (p.fold && (columns < run * kBlock || rows < kBlock))
        for (int i = 0; i < run; ++i)
          fold_block<acc>(colours, lane + i, int(smaller(left - i * kBlock, kBlock)), rows);
      T* corner = static_cast<T*>(out.data) + tile.n * out.stride_n + by * kBlock * out.stride_h +
                  bx * kBlock;
      for (int c = 0; c < kComponents; ++c)
        for (int y = 0; y < rows; ++y)
          store_run<acc>(corner + c * out.stride_c + y * out.stride_h,
                         colours[c][y] + lane * kBlock, columns);
    }
    lane += run;
    bx = 0, ++by;
  }
}

// The pixels of a tile, which f hands to its argument as (colour, row y, i, pixels i N to i N + N - 1).
template <class acc, class T, class F>
FREQOPS_INLINE void store_tile(const Synthesis<acc>& p, const Tile& tile, const F& f) {
  constexpr int N = kLanes<acc>;
  const View& out = p.out;
  const Seam seam = seam_of<acc>(tile, p.in.width, out.stride_h);
  const int64_t end = smaller(tile.bx + N, p.in.width);
  const bool whole = end * kBlock <= out.width && (seam.rows == 1 || end * kBlock == out.width);
  if (tile.count < N || !whole || !seam.between_vectors ||
      (tile.by + seam.rows) * kBlock > out.height) {
    ColourRows<acc> colours;
    f([&](int c, int y, int i, Vec<acc> x) { store_vector(colours[c][y] + i * N, x); });
    return store_clipped<acc, T>(p, tile, colours);
  }
  T* corner = static_cast<T*>(out.data) + tile.n * out.stride_n + tile.by * kBlock * out.stride_h +
              tile.bx * kBlock;
  const auto at = [&](int c, int y, int i) {
    return corner + c * out.stride_c + y * out.stride_h + i * N + (i < seam.at ? 0 : seam.jump);
  };
  if (p.stream && is_line<T, acc> && reinterpret_cast<uintptr_t>(corner) % kLine == 0 &&
      out.stride_h * sizeof(T) % kLine == 0)
    f([&](int c, int y, int i, Vec<acc> x) { store_past_caches(at(c, y, i), x); });
  else
    f([&](int c, int y, int i, Vec<acc> x) { store<acc>(at(c, y, i), x); });
}

// f with an element of the picture's type.
template <class acc, class F>
FREQOPS_INLINE void with_picture_type(const Synthesis<acc>& p, const F& f) {
  switch (p.out.type) {
    case Type::kUint8: return f(uint8_t());
    case Type::kHalf: return f(Half());
    case Type::kBfloat16: return f(BFloat16());
    case Type::kFloat: return f(float());
    case Type::kDouble:
      if constexpr (sizeof(acc) == 8) return f(double());
  }
}

template <class acc>
void store_planes(const Synthesis<acc>& p, const Tile& tile, const PlaneRows<acc>& rows) {
  with_picture_type(p, [&](auto zero) {
    store_tile<acc, decltype(zero)>(p, tile, [&](const auto& put) {
      Vec<acc> colours[kComponents];
      for (int y = 0; y < kBlock; ++y) {
        for (int i = 0; i < kBlock; ++i) {
          unmix(p, rows, y * rows.pitch + i * kLanes<acc>, colours);
          for (int c = 0; c < kComponents; ++c) put(c, y, i, colours[c]);
        }
      }
    });
  });
}

}  // namespace
}  // namespace freqops::cpu
