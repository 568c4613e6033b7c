// Chroma of the mean block. A line of it, row or column, is the sum over blocks at places 0 ... 7, and
// behind them the first and the last pixel of the whole line, summed over the other direction alone.
#pragma once

#include "dct8.h"

namespace freqops {

constexpr int kMeanPlaces = kBlock + 2;

// [1 6 1] / 8 at places 0 ... 7. What lies before a block is the last pixel of the one before it, or the
// first pixel again: at place -1 the sum is that at 7, less the last, plus the first.
template <class acc>
FREQOPS_HOST_DEVICE void smooth_mean_line(acc (&line)[kMeanPlaces]) {
  const acc first = line[kBlock], last = line[kBlock + 1];
  const acc after = line[0] - first + last;
  acc before = line[kBlock - 1] - last + first;
  for (int i = 0; i < kBlock; ++i) {
    const acc here = line[i];
    line[i] = (before + acc(6) * here + (i + 1 < kBlock ? line[i + 1] : after)) / acc(8);
    before = here;
  }
}

// Chroma "4:2:0" of 2x2 places, the square-th of kMeanSquares: all four become their mean.
constexpr int kMeanSquares = kCoefficients / 4;

template <class acc>
FREQOPS_HOST_DEVICE void average_square(acc (&plane)[kMeanPlaces][kMeanPlaces], int square) {
  const int y = square / (kBlock / 2) * 2, x = square % (kBlock / 2) * 2;
  const acc mean = (plane[y][x] + plane[y][x + 1] + plane[y + 1][x] + plane[y + 1][x + 1]) / acc(4);
  plane[y][x] = plane[y][x + 1] = plane[y + 1][x] = plane[y + 1][x + 1] = mean;
}

}  // namespace freqops
