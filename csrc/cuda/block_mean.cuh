// The mean of coefficients over blocks, from the mean block of pixels. Two kernels:
//
//   1  pixels to sums of bands: a thread block takes kBandBlocks blocks of a picture, a warp one of their
//      eight rows, a lane every 32nd block; the lanes' sums are added up by shuffles
//   2  a thread block a picture: sums of all bands, colours, chroma, DCT, normalise
//
// Pixels are read once, in accesses of 8 or 16 bytes where the launch allows them, and nothing as large
// as a picture is written.
#pragma once

#include "block_mean.h"
#include "rows.cuh"

namespace freqops::cuda {

// Adds x up over a warp: lanes 4 i to 4 i + 3 get the sum of place i in x[0]. Each step halves the
// places that a lane keeps: 9 shuffles instead of 40.
template <class acc>
__device__ __forceinline__ void sum_places(acc (&x)[kBlock], unsigned lane) {
#pragma unroll
  for (unsigned keep = kBlock / 2; keep > 0; keep /= 2) {
    const unsigned bit = 4 * keep;
    const bool upper = lane & bit;
#pragma unroll
    for (unsigned i = 0; i < keep; ++i) {
      const acc sent = upper ? x[i] : x[i + keep], kept = upper ? x[i + keep] : x[i];
      x[i] = kept + __shfl_xor_sync(~0u, sent, bit);
    }
  }
#pragma unroll
  for (unsigned bit = 2; bit > 0; bit /= 2) x[0] += __shfl_xor_sync(~0u, x[0], bit);
}

template <class acc>
__device__ __forceinline__ acc sum_warp(acc x) {
#pragma unroll
  for (unsigned bit = 16; bit > 0; bit /= 2) x += __shfl_xor_sync(~0u, x, bit);
  return x;
}

// Sums of a row of pixels over the blocks of a lane, and of its first and last pixel.
template <class acc, bool kFrame>
struct RowSums {
  acc places[kComponents][kBlock] = {}, first[kComponents] = {}, last[kComponents] = {};

  __device__ __forceinline__ void add(const acc (&x)[kComponents][kBlock], bool is_first,
                                      bool is_last) {
#pragma unroll
    for (int c = 0; c < kComponents; ++c) {
#pragma unroll
      for (int i = 0; i < kBlock; ++i) places[c][i] += x[c][i];
      if (kFrame && is_first) first[c] += x[c][0];
      if (kFrame && is_last) last[c] += x[c][kBlock - 1];
    }
  }

  // put(component, place, sum over the warp)
  template <class Put>
  __device__ __forceinline__ void finish(unsigned lane, const Put& put) {
#pragma unroll
    for (int c = 0; c < kComponents; ++c) {
      sum_places(places[c], lane);
      if (lane % 4 == 0) put(c, int(lane / 4), places[c][0]);
      if constexpr (kFrame) {
        const acc before = sum_warp(first[c]), behind = sum_warp(last[c]);
        if (lane == 0) put(c, kBlock, before);
        if (lane == 0) put(c, kBlock + 1, behind);
      }
    }
  }
};

// Thread blocks on a multiprocessor for which the registers must do: 128 a thread, for the pixels of two
// blocks on their way beside 24 sums.
constexpr int kMeanResident = 2;

// kFrame: chroma "dctnet", which needs the picture's edges.
template <class scalar_t, class acc, bool kFrame>
__global__ void __launch_bounds__(kMeanThreads, kMeanResident)
    mean_bands_kernel(const __grid_constant__ MeanParams<acc> p) {
  const uint32_t picture = quotient(blockIdx.x, p.bands);
  const uint32_t band = blockIdx.x - picture * p.bands.divisor;
  const uint32_t area = p.grid.area.divisor, width = p.grid.width.divisor;
  const int y = int(threadIdx.x) / 32, last_row = int(p.pictures.height) - 1;
  const unsigned lane = threadIdx.x % 32;

  RowSums<acc, kFrame> sums;
  const uint32_t begin = band * kBandBlocks, end = smaller(begin + kBandBlocks, area);
#pragma unroll 2
  for (uint32_t block = begin + lane; block < end; block += 32) {
    const uint32_t row = quotient(block, p.grid.width), column = block - row * width;
    const Row<scalar_t, acc> pixels(p.pictures, picture, smaller(int(row) * kBlock + y, last_row));
    acc x[kComponents][kBlock];
    pixels.load(p.access, int(column) * kBlock, x);
    sums.add(x, column == 0, column + 1 == width);
  }
  acc* const out = p.partial + int64_t(blockIdx.x) * kBandSums + y * kMeanPlaces;
  sums.finish(lane,
              [&](int c, int place, acc sum) { out[c * kBlock * kMeanPlaces + place] = sum; });
}

// Components of the mean block, and beside and below it the edges of "dctnet": rows 8 and 9 are the
// picture's first and last.
using MeanBlock = double[kComponents][kMeanPlaces][kMeanPlaces];

// `length` numbers of a row, or of a column, of component k, through f.
template <int length, class F>
__device__ __forceinline__ void with_line(MeanBlock& block, int k, int i, bool column, const F& f) {
  double line[length];
#pragma unroll
  for (int j = 0; j < length; ++j) line[j] = column ? block[k][j][i] : block[k][i][j];
  f(line);
#pragma unroll
  for (int j = 0; j < kBlock; ++j) (column ? block[k][j][i] : block[k][i][j]) = line[j];
}

template <class scalar_t, class acc, bool kFrame>
__global__ void __launch_bounds__(kMeanThreads)
    mean_finish_kernel(const __grid_constant__ MeanParams<acc> p) {
  __shared__ MeanBlock colours, block;
  const int thread = int(threadIdx.x);
  const unsigned lane = threadIdx.x % 32;
  const uint32_t picture = blockIdx.x, width = p.grid.width.divisor;

  if (thread < kBandSums && (kFrame || thread % kMeanPlaces < kBlock)) {
    const int64_t first = int64_t(picture) * p.bands.divisor;
    double sum = 0;
    for (uint32_t band = 0; band < p.bands.divisor; ++band)
      sum += double(p.partial[(first + band) * kBandSums + thread]);
    colours[thread / (kBlock * kMeanPlaces)][thread / kMeanPlaces % kBlock][thread % kMeanPlaces] =
        sum;
  }
  if constexpr (kFrame) {
    const int edge = thread / 32;  // the first two warps: the first and the last row
    if (edge < 2) {
      RowSums<acc, true> sums;
      const Row<scalar_t, acc> pixels(p.pictures, picture,
                                      edge == 0 ? 0 : int(p.pictures.height) - 1);
#pragma unroll 1
      for (uint32_t column = lane; column < width; column += 32) {
        acc x[kComponents][kBlock];
        pixels.load(p.access, int(column) * kBlock, x);
        sums.add(x, column == 0, column + 1 == width);
      }
      sums.finish(
          lane, [&](int c, int place, acc sum) { colours[c][kBlock + edge][place] = double(sum); });
    }
  }
  __syncthreads();

  // Also what has no meaning without kFrame, and is not read.
  const double share = 1 / double(p.grid.area.divisor);
  for (int e = thread; e < kMeanPlaces * kMeanPlaces; e += kMeanThreads) {
    const int y = e / kMeanPlaces, x = e % kMeanPlaces;
    if (!kFrame && (y >= kBlock || x >= kBlock)) continue;
    const double red = colours[0][y][x] * share, green = colours[1][y][x] * share,
                 blue = colours[2][y][x] * share;
#pragma unroll
    for (int k = 0; k < kComponents; ++k)
      block[k][y][x] = p.matrix.m[k][0] * red + p.matrix.m[k][1] * green + p.matrix.m[k][2] * blue;
  }
  __syncthreads();

  if constexpr (kFrame) {
    const auto smooth = [](double (&line)[kMeanPlaces]) { smooth_mean_line(line); };
    if (thread < 2 * kMeanPlaces)
      with_line<kMeanPlaces>(block, 1 + thread / kMeanPlaces, thread % kMeanPlaces, false, smooth);
    __syncthreads();
    if (thread < 2 * kBlock)
      with_line<kMeanPlaces>(block, 1 + thread / kBlock, thread % kBlock, true, smooth);
    __syncthreads();
  } else if (p.chroma == Chroma::k420) {
    if (thread < 2 * kMeanSquares)
      average_square(block[1 + thread / kMeanSquares], thread % kMeanSquares);
    __syncthreads();
  }

#pragma unroll 1
  for (int column = 0; column < 2; ++column) {
    if (thread < kComponents * kBlock)
      with_line<kBlock>(block, thread / kBlock, thread % kBlock, column,
                        [](double (&line)[kBlock]) { dct8<double>(line); });
    __syncthreads();
  }

  if (thread >= p.channels.count) return;
  const int c = p.channels.coefficient[thread], k = c % kCoefficients;
  double x = block[c / kCoefficients][k / kBlock][k % kBlock] * p.dct_scale[k];
  if (c == 0) x -= kBlock * kLevelShift;
  if (p.mean.data) x -= statistic<double>(p.mean, p.channels, thread);
  if (p.std.data) x /= statistic<double>(p.std, p.channels, thread);
  p.result[int64_t(picture) * p.channels.count + p.channels.position[thread]] = acc(x);
}

template <class scalar_t, class acc, bool kFrame>
cudaError_t launch_mean_kernels(const MeanParams<acc>& params, cudaStream_t stream) {
  const unsigned bands = params.pictures_count * params.bands.divisor;
  const cudaError_t error =
      launch(mean_bands_kernel<scalar_t, acc, kFrame>, bands, kMeanThreads, stream, params);
  if (error != cudaSuccess) return error;
  return launch(mean_finish_kernel<scalar_t, acc, kFrame>, params.pictures_count, kMeanThreads,
                stream, params);
}

template <class scalar_t, class acc>
cudaError_t launch_mean_type(const MeanParams<acc>& params, cudaStream_t stream) {
  return params.chroma == Chroma::kDctnet
             ? launch_mean_kernels<scalar_t, acc, true>(params, stream)
             : launch_mean_kernels<scalar_t, acc, false>(params, stream);
}

template <class acc>
__global__ void __launch_bounds__(kScalingThreads)
    scaling_kernel(const __grid_constant__ ScalingParams p) {
  const int64_t i = (p.first_block + blockIdx.x) * kScalingThreads + threadIdx.x;
  const int64_t picture = p.channels * p.pixels;
  if (i >= p.pictures * picture) return;
  const int64_t n = i / picture, c = p.channels_last ? i % p.channels : i / p.pixels % p.channels;
  const acc gate = load<AnyType, acc>(p.gate.data, p.gate.type, n * p.channels + c);
  const acc x = static_cast<const acc*>(p.x)[i];
  store<AnyType>(p.y, p.type, i, gate == acc(0) ? acc(0) : x * gate);
}

}  // namespace freqops::cuda
