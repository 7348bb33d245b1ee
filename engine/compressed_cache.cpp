#include <weft/engine/compressed_cache.hpp>

#include <cstring>
#include <string>
#include <vector>

namespace weft::engine {

namespace {

result<void> check(const kv_cache& context, const policies::kept_rows& kept) {
  const kv_shape& shape = context.shape();
  if (kept.shape.layers != shape.layers || kept.shape.kv_heads != shape.kv_heads)
    return fail(errc::invalid_argument, "the kept rows are those of another model; score with this one");
  if (shape.coding != kernels::row_codec::raw)
    return fail(errc::unsupported, "rows are taken out of a raw cache, and this one holds " +
                                       std::string(kernels::name_of(shape.coding)));
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      if (context.rows(layer, head) < kept.shape.tokens)
        return fail(errc::invalid_argument, std::to_string(kept.shape.tokens) +
                                                " tokens were scored and the context has " +
                                                std::to_string(context.rows(layer, head)) + " rows");
  return {};
}

// Copies, or encodes, runs of neighbouring rows at once.
class head_copy {
 public:
  head_copy(kv_cache& from, kv_cache& to, std::uint32_t layer, std::uint32_t kv_head)
      : from_(from), to_(to), layer_(layer), head_(kv_head) {}

  void run(std::span<const std::uint8_t> kept) {
    for (std::size_t begin = 0, end = 0; begin < kept.size(); begin = end + 1) {
      for (end = begin; end < kept.size() && kept[end] != 0;)
        ++end;
      if (end > begin) copy(begin, end - begin);
    }
    to_.set_rows(layer_, head_, static_cast<std::uint32_t>(copied_));
  }

 private:
  void copy(std::size_t first, std::size_t rows) {
    copy_rows(from_.k(layer_, head_), to_.k(layer_, head_), to_.k_scales(layer_, head_), first, rows);
    copy_rows(from_.v(layer_, head_), to_.v(layer_, head_), to_.v_scales(layer_, head_), first, rows);
    copy(from_.positions(layer_, head_), to_.positions(layer_, head_), first, rows, 1);
    copy(from_.segments(layer_, head_), to_.segments(layer_, head_), first, rows, 1);
    copied_ += rows;
  }
  void copy_rows(const std::byte* in, std::byte* codes, std::uint16_t* scales, std::size_t first,
                 std::size_t rows) const {
    const kv_shape& shape = to_.shape();
    if (shape.coding == kernels::row_codec::raw) return copy(in, codes, first, rows, shape.row_bytes());
    kernels::encode_rows(shape.coding, shape.dtype, in + first * from_.shape().row_bytes(), shape.head_dim,
                         rows, shape.head_dim, codes + copied_ * shape.row_bytes(),
                         scales + copied_ * shape.row_scales());
  }
  template <class T>
  void copy(const T* in, T* out, std::size_t first, std::size_t rows, std::size_t width) const {
    std::memcpy(out + copied_ * width, in + first * width, rows * width * sizeof(T));
  }

  kv_cache& from_;
  kv_cache& to_;
  std::uint32_t layer_, head_;
  std::size_t copied_ = 0;
};

}  // namespace

result<kv_cache> copy_kept_rows(kv_cache& context, const policies::kept_rows& kept, std::uint32_t tail_rows,
                                kernels::row_codec coding) {
  if (auto checked = check(context, kept); !checked) return tl::unexpected(checked.error());
  if (auto home = context.bring_home(); !home) return tl::unexpected(home.error());
  kv_shape shape = context.shape();
  shape.coding = coding;
  std::vector<std::uint32_t> capacity;
  for (std::size_t head = 0; head < kept.shape.heads(); ++head)
    capacity.push_back(kept.count(head) + tail_rows);
  kv_cache copied(shape, capacity);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      head_copy(context, copied, layer, head).run(kept.head(std::size_t{layer} * shape.kv_heads + head));
  return copied;
}

}  // namespace weft::engine
