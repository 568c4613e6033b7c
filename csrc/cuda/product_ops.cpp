#include "product_ops.h"

#include <atomic>
#include <cmath>
#include <string>

namespace freqops::cuda {

namespace {

enum DctKernel { kAuto, kRegisters, kProduct };
constexpr const char* kNames[] = {"auto", "registers", "product"};

// "auto" takes the product for up to so many channels: none, until a GPU has measured where the two
// cross.
constexpr int kProductUpTo = 0;

std::atomic<DctKernel> chosen{kAuto};

std::string dct_kernel() { return kNames[chosen]; }

void set_dct_kernel(const std::string& name) {
  for (const DctKernel kernel : {kAuto, kRegisters, kProduct}) {
    if (name != kNames[kernel]) continue;
    chosen = kernel;
    return;
  }
  STD_TORCH_CHECK(false,
                  "set_dct_kernel: kernel must be \"auto\", \"registers\" or \"product\", got \"",
                  name, "\"");
}

RowAccess row_access(const View& v) {
  const bool four = blocks(v.width) % kNeighbours == 0 && v.width % kBlock == 0;
  if (four && aligned(v, 16)) return RowAccess::kNeighbours;
  return aligned(v, 8) ? RowAccess::kBlocks : RowAccess::kBytes;
}

// axis[v][y] of the DCT matrix; averaged: of its product with the means of pairs of pixels.
void fill_axis(float (&axis)[kBlock][kBlock], bool averaged) {
  for (int v = 0; v < kBlock; ++v) {
    double cosines[kBlock];
    for (int y = 0; y < kBlock; ++y)
      cosines[y] = std::sqrt(v ? .25 : .125) * std::cos((2 * y + 1) * v * std::acos(-1.) / 16);
    for (int y = 0; y < kBlock; ++y) {
      const double mean = (cosines[y] + cosines[y ^ 1]) / 2;
      axis[v][y] = float(averaged ? mean : cosines[y]);
    }
  }
}

}  // namespace

bool is_product(const AnalysisParams<float>& params) {
  const View& v = params.pictures;
  const int count = params.channels.count;
  return (chosen == kProduct || (chosen == kAuto && count <= kProductUpTo)) &&
         v.type == Type::kUint8 && !params.rounded && params.chroma != Chroma::kDctnet &&
         product_fits(count) &&
         ((v.stride_w == 1 && v.stride_c != 1) || (v.stride_w == kComponents && v.stride_c == 1));
}

void multiply(const AnalysisParams<float>& params, const DeviceScope& device) {
  const View& pictures = params.pictures;
  const int64_t grid_height = blocks(pictures.height), grid_width = blocks(pictures.width);
  ProductParams p{};
  p.pictures = pictures;
  p.interleaved = pictures.stride_w != 1;
  p.access = row_access(pictures);
  p.result_type = params.result_type;
  p.channels_last = params.channels_last;
  p.neighbours = params.channels_last ? params.channels.count % 2 == 0
                                      : grid_height * grid_width % kNeighbours == 0;
  p.channels = params.channels;
  p.mean = params.mean;
  p.std = params.std;
  p.matrix = params.matrix;
  p.shift = int32_t(params.shift);
  fill_axis(p.axis[0], false);
  fill_axis(p.axis[1], params.chroma == Chroma::k420);
  for_each_launch(pictures.batch, grid_height, grid_width, [&](int64_t first, const Grid& grid) {
    p.grid = grid;
    p.pictures.data = advance(pictures.data, pictures.type, first * pictures.stride_n);
    p.result = advance(params.result, params.result_type,
                       first * params.channels.count * grid_height * grid_width);
    check_launch(launch_product(p, device.stream()));
  });
}

}  // namespace freqops::cuda

#if defined(FREQOPS_EMULATED)
STABLE_TORCH_LIBRARY_FRAGMENT(freqops_emulated, m) {
#else
STABLE_TORCH_LIBRARY_FRAGMENT(freqops, m) {
#endif
  // The kernel of block_dct on bytes, in the whole process: "registers", a fast DCT; "product", a product
  // of integer matrices on tensor cores, where it computes what is asked for; "auto", the default.
  m.def("dct_kernel() -> str");
  m.def("set_dct_kernel(str kernel) -> ()");
}

#if defined(FREQOPS_EMULATED)
STABLE_TORCH_LIBRARY_IMPL(freqops_emulated, CompositeExplicitAutograd, m) {
#else
STABLE_TORCH_LIBRARY_IMPL(freqops, CompositeExplicitAutograd, m) {
#endif
  using namespace freqops::cuda;
  m.impl("dct_kernel", TORCH_BOX(&dct_kernel));
  m.impl("set_dct_kernel", TORCH_BOX(&set_dct_kernel));
}
