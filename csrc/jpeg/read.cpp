#include "read.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <utility>

#include "orientation.h"
#include "session.h"
#include "signature.h"

namespace freqops::jpeg {
namespace {

// Empty where every component is there.
std::string missing_component(const jpeg_decompress_struct& cinfo) {
  constexpr const char* kNames[] = {"Y", "Cb", "Cr"};
  for (int i = 0; i < cinfo.num_components; ++i) {
    const char* name = cinfo.num_components == 1 ? "its component" : kNames[i];
    // The table is taken up when the first scan of its component begins.
    if (cinfo.comp_info[i].quant_table == nullptr) return std::string("no scan holds ") + name;
    // Bits of the point transform that are still to come; -1 where no scan has come.
    if (cinfo.progressive_mode && cinfo.coef_bits != nullptr && cinfo.coef_bits[i][0] < 0) {
      return std::string("no scan holds the DC coefficients of ") + name;
    }
  }
  return "";
}

bool all_zero(const jvirt_barray_control& array) {
  const size_t count = size_t{array.row_count} * array.row_length * kBlock;
  return std::all_of(array.memory, array.memory + count, [](int16_t x) { return x == 0; });
}

int orientation_of(const jpeg_decompress_struct& cinfo) {
  for (jpeg_saved_marker_ptr m = cinfo.marker_list; m != nullptr; m = m->next) {
    const int orientation = exif_orientation(m->data, m->data_length);
    if (orientation != 0) return orientation;
  }
  return 1;
}

void multiply(Plane* plane) {
  constexpr int32_t kLow = std::numeric_limits<int16_t>::min();
  constexpr int32_t kHigh = std::numeric_limits<int16_t>::max();
  for (int64_t row = 0; row < plane->rows; ++row) {
    int16_t* block = plane->values.get() + row * plane->stride * kBlock;
    for (int64_t column = 0; column < plane->columns; ++column, block += kBlock) {
      for (int k = 0; k < kBlock; ++k) {
        // |product| <= 2^15 (2^16 - 1) < 2^31
        const int32_t product = int32_t{block[k]} * int32_t{plane->table[k]};
        block[k] = static_cast<int16_t>(std::clamp(product, kLow, kHigh));
      }
    }
  }
}

}  // namespace

Outcome read(const uint8_t* data, size_t size, const Options& options, Picture* picture,
             std::string* reason) {
  const std::string other = not_jpeg(data, size);
  if (!other.empty()) {
    *reason = "not a JPEG file: " + other;
    return Outcome::kBroken;
  }

  Session session(data, size, options);
  const Outcome outcome = decode(&session);
  if (outcome != Outcome::kRead) {
    *reason = session.reason;
    return outcome;
  }
  const jpeg_decompress_struct& cinfo = session.cinfo;
  const bool damaged = session.errors.num_warnings != 0;
  const std::string missing = missing_component(cinfo);
  if (!missing.empty() && !options.tolerant) {
    *reason = missing + ": it is truncated or damaged";
    return Outcome::kBroken;
  }
  if ((damaged || !missing.empty()) && all_zero(session.arrays[0])) {
    *reason = "no coefficient could be decoded: " + (damaged ? session.warning : missing);
    return Outcome::kBroken;
  }

  picture->components = cinfo.num_components;
  picture->subsampling = subsampling_name(cinfo);
  picture->height = static_cast<int>(cinfo.image_height);
  picture->width = static_cast<int>(cinfo.image_width);
  picture->orientation = orientation_of(cinfo);
  picture->progressive = cinfo.progressive_mode;
  for (int i = 0; i < cinfo.num_components; ++i) {
    const jpeg_component_info& component = cinfo.comp_info[i];
    const JQUANT_TBL* table = component.quant_table;
    // Tolerated: its scan did not come. DQT may have.
    if (table == nullptr && component.quant_tbl_no < NUM_QUANT_TBLS) {
      table = cinfo.quant_tbl_ptrs[component.quant_tbl_no];
    }
    if (table == nullptr) {
      *reason = missing + ", and it has no quantisation table";
      return Outcome::kBroken;
    }
    jvirt_barray_control* array = &session.arrays[i];
    Plane* plane = &picture->planes[i];
    plane->values.reset(std::exchange(array->memory, nullptr));
    plane->rows = component.height_in_blocks;
    plane->columns = component.width_in_blocks;
    plane->stride = array->row_length;
    std::copy_n(table->quantval, kBlock, plane->table);
    if (options.dequantize) multiply(plane);
  }
  return Outcome::kRead;
}

}  // namespace freqops::jpeg
