// The mean of the coefficients over blocks, from the mean block of pixels.
#include <algorithm>
#include <memory>

#include "../math/color.h"
#include "../math/mean_block.h"
#include "../ops.h"
#include "isa.h"
#include "prepare.h"

namespace freqops::cpu {

namespace {

// Block rows of a band: sums of 16 floats before they go on in double, and for a picture of 448 x 448
// four bands, which threads share.
constexpr int64_t kBand = 16;

using Sums = double[kComponents][kMeanPlaces][kMeanPlaces];

void transpose(double (&m)[kMeanPlaces][kMeanPlaces]) {
  for (int i = 0; i < kMeanPlaces; ++i)
    for (int j = 0; j < i; ++j) std::swap(m[i][j], m[j][i]);
}

// Smooths the sums of Cb or Cr over blocks: the edges of rows, of columns after a transposition.
void smooth_chroma(Chroma chroma, double (&plane)[kMeanPlaces][kMeanPlaces]) {
  if (chroma == Chroma::k420) {
    for (int square = 0; square < kMeanSquares; ++square) average_square(plane, square);
  } else if (chroma == Chroma::kDctnet) {
    for (int axis = 0; axis < 2; ++axis) {
      for (auto& row : plane) smooth_mean_line(row);
      transpose(plane);
    }
  }
}

// Planes' sums over blocks to coefficients of their mean, [v * 8 + u].
void transform(double (&plane)[kMeanPlaces][kMeanPlaces], double blocks, double* out) {
  for (int axis = 0; axis < 2; ++axis) {
    for (int i = 0; i < kBlock; ++i) {
      double line[kBlock];
      std::copy(plane[i], plane[i] + kBlock, line);
      dct8<double>(line);
      std::copy(line, line + kBlock, plane[i]);
    }
    transpose(plane);
  }
  for (int v = 0; v < kBlock; ++v)
    for (int u = 0; u < kBlock; ++u)
      out[v * kBlock + u] = plane[v][u] * (dct8_scale(v) * dct8_scale(u) / blocks);
}

// All coefficients of one picture's mean block.
void coefficients(const PixelSums& p, int64_t n, Chroma chroma, double (&out)[kChannels]) {
  Sums colours = {}, planes;
  for (int64_t band = 0; band < p.bands; ++band)
    for (int c = 0; c < kComponents; ++c)
      for (int y = 0; y < kMeanPlaces; ++y)
        for (int x = 0; x < kMeanPlaces; ++x)
          colours[c][y][x] += p.sums[n * p.bands + band][c][y][x];
  const double white = p.in.type == Type::kUint8 ? 1 : kWhite;
  const ColorMatrix<double> matrix = color_matrix<double>(kRgbToYcbcr, white);
  for (int k = 0; k < kComponents; ++k) {
    const double (&m)[3] = matrix.m[k];
    for (int y = 0; y < kMeanPlaces; ++y)
      for (int x = 0; x < kMeanPlaces; ++x)
        planes[k][y][x] =
            m[0] * colours[0][y][x] + m[1] * colours[1][y][x] + m[2] * colours[2][y][x];
    if (k > 0) smooth_chroma(chroma, planes[k]);
    transform(planes[k], double(p.grid_h) * double(p.grid_w), out + k * kCoefficients);
  }
  out[0] -= kBlock * kLevelShift;
}

}  // namespace

Tensor block_dct_mean(const Tensor& images, IntHeaderOnlyArrayRef channels,
                      const std::optional<Tensor>& mean, const std::optional<Tensor>& std,
                      const std::string& chroma_name) {
  const char* op = "block_dct_mean";
  check_pictures(op, "images", images);
  check_channels(op, channels);
  check_statistic(op, "mean", mean, channels, images);
  check_statistic(op, "std", std, channels, images);
  const Statistics statistics(mean, std);
  check_values(op, statistics);
  const Type type = floating_or_uint8_type(op, "images", images.scalar_type());
  const Chroma chroma = chroma_mode(op, chroma_name);

  const int64_t pictures = images.size(0), count = int64_t(channels.size());
  const int64_t sizes[] = {pictures, count};
  const bool in_double = is_double(type);
  Tensor out = torch::stable::empty({sizes, 2}, in_double ? ScalarType::Double : ScalarType::Float,
                                    std::nullopt, images.device());
  if (pictures == 0) return out;

  PixelSums p{};
  p.in = input_view(images, type);
  p.grid_h = blocks(p.in.height);
  p.grid_w = blocks(p.in.width);
  p.band = kBand;
  p.bands = (p.grid_h + kBand - 1) / kBand;
  p.frame = chroma == Chroma::kDctnet;
  const std::unique_ptr<Sums[]> sums(new Sums[size_t(pictures * p.bands)]);
  p.sums = sums.get();
  const auto pixel_sums = kernels<float>().pixel_sums;
  run_in_parallel(p.in, pictures * p.bands,
                  [&](int64_t begin, int64_t end) { pixel_sums(p, begin, end); });

  void* const result = out.mutable_data_ptr();
  run_in_parallel(p.in, pictures, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      double all[kChannels];
      coefficients(p, n, chroma, all);
      for (int64_t i = 0; i < count; ++i) {
        const int64_t channel = channels[i];
        const double value =
            (all[channel] - statistics.mean.at(i, channel)) / statistics.std.at(i, channel);
        if (in_double)
          static_cast<double*>(result)[n * count + i] = value;
        else
          static_cast<float*>(result)[n * count + i] = float(value);
      }
    }
  });
  return out;
}

}  // namespace freqops::cpu

STABLE_TORCH_LIBRARY_IMPL(freqops, CPU, m) {
  m.impl("block_dct_mean", TORCH_BOX(&freqops::cpu::block_dct_mean));
}
