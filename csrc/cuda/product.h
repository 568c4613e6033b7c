// The transform of bytes as one product of integer matrices: what its kernel is told.
#pragma once

#include <cstdint>

#include "params.h"

#if defined(FREQOPS_EMULATED)
#include "cuda_on_host.h"
#else
#include <cuda_runtime_api.h>
#endif

namespace freqops::cuda {

// Blocks of a warp: four neighbours in each of eight groups of lanes.
constexpr int kNeighbours = 4, kWarpBlocks = 8 * kNeighbours;

// How a lane reads a row of pixels of its four blocks.
enum class RowAccess : uint8_t {
  kNeighbours,  // 16 bytes at a time: the four lie in one row of blocks, rows begin at multiples of 16
  kBlocks,      // 8 bytes at a time: rows begin at multiples of 8
  kBytes,       // one at a time, any place
};

// block_dct of uint8 pictures, chroma "4:4:4" or "4:2:0", without rounding.
struct ProductParams {
  View pictures;  // [N, 3, H, W], uint8; pixels of a row are neighbours, or its colours are
  bool interleaved;
  RowAccess access;
  void* result;  // [N, C, gh, gw] contiguous, or [N, gh, gw, C]
  Type result_type;
  bool channels_last;  // the result's memory format
  bool neighbours;     // results of four neighbouring blocks are stored at a time
  Grid grid;
  Channels channels;
  Statistic mean, std;
  ColorMatrix<float> matrix;
  int32_t shift;  // added to Y: -128 or 0
  // axis[0][v][y] of the DCT matrix; axis[1] the same for chroma, means of two pixels included.
  float axis[2][kBlock][kBlock];
};

static_assert(sizeof(ProductParams) <= 4096);

// Whether the current device has the products, from compute capability 8.0 on, and shared memory for the
// weights of so many channels.
bool product_fits(int channels);

cudaError_t launch_product(const ProductParams& params, cudaStream_t stream);

}  // namespace freqops::cuda
