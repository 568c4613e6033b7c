// What the kernels of block_dct_mean and of the product with a gate are told.
#pragma once

#include "../math/mean_block.h"
#include "kernels.h"

namespace freqops::cuda {

// Blocks of a band, consecutive in raster order: 8 for each lane of a warp, so that a float holds what a
// lane sums of bytes exactly, and partial sums are 2 % of the bytes of uint8 pictures.
constexpr int kBandBlocks = 256;

// A warp for each row of a block.
constexpr int kMeanThreads = 32 * kBlock;

// Sums of a band, [component][row of a block][place], see math/mean_block.h for the places.
constexpr int kBandSums = kComponents * kBlock * kMeanPlaces;

template <class acc>
struct MeanParams {
  View pictures;  // [N, 3, H, W]
  PixelAccess access;
  Grid grid;
  uint32_t pictures_count;  // of this launch
  Divisor bands;            // of a picture
  acc* partial;             // [N, bands, kBandSums]
  acc* result;              // [N, C]
  Channels channels;
  Statistic mean, std;
  ColorMatrix<double> matrix;       // times pixels
  double dct_scale[kCoefficients];  // of the DCT's outputs
  Chroma chroma;
};

static_assert(sizeof(MeanParams<double>) <= 4096);

// Sums of bands, then a result from those of each picture. No atomics: a sum has a fixed order.
cudaError_t launch_mean(const MeanParams<float>& params, cudaStream_t stream);
cudaError_t launch_mean(const MeanParams<double>& params, cudaStream_t stream);

// y = x * gate, 0 where gate is 0, for what has no gated analysis of its own.
struct ScalingParams {
  const void* x;  // float or double, as the kernel
  void* y;
  Type type;  // of y
  Gate gate;
  int64_t pictures, channels, pixels;  // [N, C, pixels], or [N, pixels, C]
  bool channels_last;
  int64_t first_block;
};

constexpr int kScalingThreads = 256;

template <class acc>
cudaError_t launch_scaling(const ScalingParams& params, unsigned blocks, cudaStream_t stream);

}  // namespace freqops::cuda
