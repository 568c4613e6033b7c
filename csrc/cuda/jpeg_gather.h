// What the kernels of jpeg_gather are told.
#pragma once

#include "../axis_map.h"
#include "kernels.h"

namespace freqops::cuda {

// A thread block: results beside each other in a row of blocks, a thread to each row of each.
constexpr int kRun = 32;
constexpr int kGatherThreads = kRun * kBlock;

// Blocks of a component, [N, height, width, 64]. Strides are counted in elements.
struct GatherSource {
  const int16_t* blocks;  // of the launch's first picture; null: zeros
  int64_t stride_n, stride_y, stride_x;
  const int32_t* steps;  // [64] of that picture, or null: 1
  int64_t stride_steps;  // from picture to picture
  bool wide;             // all rows of blocks begin at multiples of 16 bytes
  uint8_t rows;          // bit v: row v is read
};

struct GatherParams {
  GatherSource sources[kComponents];
  void* result;  // [N, C, rows, columns] contiguous, or [N, rows, columns, C]
  Type result_type;
  bool channels_last;
  Grid grid;              // of runs: rows, and runs of a row
  int32_t area, columns;  // blocks of a picture of the result, and of one row of it
  Channels channels;
  Statistic mean, std;
};

// At full size block d of luma is part p = d % f of block d / f of a component that is subsampled f
// times. Parts p and f - 1 - p mirror each other, M_p[v, u] = (-1)^(v + u) M_{f - 1 - p}[v, u], so
// that the first half of the matrices does, and f = 1 needs none. Block i of a row of the result is
// d = left + i or, mirrored, d = left + columns - 1 - i with odd u negated.
struct FullSizeParams {
  GatherParams all;
  int64_t top, left;
  bool mirrored;
  uint8_t log_down[kComponents], log_across[kComponents];  // log2 f
  float down[1][kCoefficients];                            // M_p [v, u] of f = 2
  float across[2][kCoefficients];                          // M_p [v, u] of f = 2 or 4
};

// An AxisMap on the device, but for its matrices: [matrix, v, u].
struct DeviceAxis {
  const AxisMap::Block* blocks;
  const float* matrices;
};

struct ScaledParams {
  GatherParams all;
  DeviceAxis down[kComponents], across[kComponents];
};

cudaError_t launch_gather(const FullSizeParams& params, cudaStream_t stream);
cudaError_t launch_gather(const ScaledParams& params, cudaStream_t stream);

// Words on their way to the device by value. A copy from pageable memory would wait, or run into
// memory that is no longer there when a graph is replayed.
struct alignas(16) UploadWord {
  uint32_t part[4];
};
constexpr int kUploadWords = 240;
struct UploadParams {
  UploadWord* to;
  int32_t count;
  UploadWord words[kUploadWords];
};

cudaError_t launch_upload(const UploadParams& params, cudaStream_t stream);

// Kernel parameters end at 4 KB before CUDA 12.1.
static_assert(sizeof(FullSizeParams) <= 4096 && sizeof(ScaledParams) <= 4096 &&
              sizeof(UploadParams) <= 4096);
static_assert(sizeof(AxisMap::Block) == sizeof(UploadWord));

}  // namespace freqops::cuda
