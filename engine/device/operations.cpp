#include "operations.hpp"

#include "cache_mirror.hpp"
#include "device_alignment.hpp"
#include "device_kernels.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

result<std::unique_ptr<device_operations>> device_operations::make(
    const model_config& config, const model_weights& weights, const kv_shape& shape,
    kernels::products allowed, std::span<const float> frequencies, kernels::thread_pool& pool,
    const runner_options& options) {
  auto stream = options.device->memory->make_stream();
  if (!stream) return tl::unexpected(stream.error());
  auto stage = block_stage::make(options.device);
  if (!stage) return tl::unexpected(stage.error());
  auto resident = resident_weights::upload(weights, allowed, options.device->memory, **stream);
  if (!resident) return tl::unexpected(resident.error());
  return std::unique_ptr<device_operations>(
      new device_operations(config, weights, shape, allowed, frequencies, pool, options, std::move(*stream),
                            std::move(*stage), std::move(*resident)));
}

device_operations::device_operations(const model_config& config, const model_weights& weights,
                                     const kv_shape& shape, kernels::products allowed,
                                     std::span<const float> frequencies, kernels::thread_pool& pool,
                                     const runner_options& options, std::unique_ptr<device::stream> stream,
                                     std::unique_ptr<block_stage> stage, resident_weights resident)
    : config_(config),
      weights_(weights),
      shape_(shape),
      frequencies_(frequencies),
      pool_(pool),
      on_(options.device),
      kernels_(*on_->kernels),
      group_(options.group),
      stage_(std::move(stage)),
      stream_(std::move(stream)),
      resident_(std::move(resident)),
      lists_(on_->memory, *stream_),
      attention_there_(attention_shape_of(config, shape.dtype, allowed), on_->memory, kernels_, *stream_,
                       lists_),
      counting_(attention_shape_of(config, shape.dtype, allowed), on_->memory, kernels_, *stream_, lists_),
      attention_here_(attention_shape_of(config, shape.dtype, allowed), config.layers, pool),
      fresh_(shape),
      query_width_(config.query_heads * config.head_dim),
      key_width_(config.kv_heads * config.head_dim),
      qkv_width_(query_width_ + 2 * key_width_),
      recorded_(*stream_, recordings_of(*on_), group_) {
  if (group_.alone() && attention_there_.takes_all()) stage_->allow_leaving();
}

// Memory is released behind what still uses it.
device_operations::~device_operations() {
  (void)stream_->wait();
}

result<void> device_operations::prepare(std::span<const row_group> groups, std::uint32_t rows) {
  if (!attention_there_.takes_all())
    if (auto home = bring_caches_home(groups); !home) return home;
  for (const row_group& group : groups)
    for (const kv_cache* cache = group.cache; cache != nullptr; cache = cache->base())
      if (const auto mirror = cache_mirror::of(*cache, on_); !mirror) return tl::unexpected(mirror.error());
  return reserve(rows);
}

result<void> device_operations::reserve(std::uint32_t rows) {
  if (rows <= reserved_rows_) return {};
  (void)wait();  // for a pass that failed
  const auto floats = [rows](std::size_t width) { return aligned_on_device(rows * width * sizeof(float)); };
  const std::size_t widest =
      std::max({config_.hidden_size, query_width_, config_.intermediate_size, qkv_width_});
  const std::size_t keys_bytes = std::size_t{rows} * key_width_ * kernels::size_bytes(shape_.dtype);
  const std::size_t sizes[] = {floats(config_.hidden_size),
                               floats(config_.hidden_size),
                               floats(qkv_width_),
                               floats(qkv_width_),
                               floats(query_width_),
                               floats(std::size_t{2} * config_.intermediate_size),
                               floats(widest),
                               aligned_on_device(2 * keys_bytes),
                               floats(config_.head_dim)};
  std::size_t bytes = 0;
  for (const std::size_t size : sizes)
    bytes += size;
  reserved_rows_ = 0;
  recorded_.forget();
  memory_ = device::memory();
  auto memory = on_->memory->allocate(bytes, "the activations of " + std::to_string(rows) + " rows");
  if (!memory) return tl::unexpected(memory.error());
  auto home =
      on_->memory->allocate_pinned(std::size_t{2} * config_.layers * keys_bytes, "new keys and values");
  if (!home) return tl::unexpected(home.error());
  if (!group_.alone() && !group_.sums_on_devices()) {
    auto parts = on_->memory->allocate_pinned(floats(config_.hidden_size), "sums over the ranks of a group");
    if (!parts) return tl::unexpected(parts.error());
    parts_ = std::move(*parts);
  }
  memory_ = std::move(*memory);
  home_ = std::move(*home);
  std::byte* next = memory_.data();
  const std::size_t* size = sizes;
  const auto take = [&next, &size] { return std::exchange(next, next + *size++); };
  const auto take_floats = [&take] { return reinterpret_cast<float*>(take()); };
  x_ = take_floats();
  other_x_ = take_floats();
  qkv_ = take_floats();
  other_qkv_ = take_floats();
  attention_ = take_floats();
  mlp_ = take_floats();
  input_ = take();
  keys_ = take();
  rotations_there_ = take_floats();
  reserved_rows_ = rows;
  return {};
}

result<void> device_operations::begin(const row_chunk& chunk) {
  (void)wait();  // for a pass that failed
  if (auto home = bring_home_what_moves(chunk); !home) return home;
  lists_.reset();
  logits_.settle();
  step_keys_.settle();
  attention_there_.begin();
  counting_.begin();
  attention_here_.begin();
  away_count_ = 0;
  const std::size_t rows = chunk.tokens.size();
  keys_bytes_ = rows * key_width_ * kernels::size_bytes(shape_.dtype);
  rotations_.assign(frequencies_, chunk.positions);
  stream_->upload(reinterpret_cast<std::byte*>(rotations_there_), rotations_.cosines(0),
                  rows * config_.head_dim * sizeof(float));
  positions_there_ = lists_.add(chunk.positions);
  segments_there_ = lists_.add(chunk.segments);
  return lists_.flush();
}

result<void> device_operations::wait() {
  return group_.wait_for(*stream_);
}

result<void> device_operations::download(void* to, const void* from, std::size_t bytes) {
  stream_->download(to, static_cast<const std::byte*>(from), bytes);
  return wait();
}

result<void> device_operations::embed(std::span<const token_id> tokens) {
  const std::size_t width = config_.hidden_size;
  x_here_.resize(tokens.size() * width);
  for (std::size_t row = 0; row < tokens.size(); ++row)
    weights_.embedding->row(tokens[row], {x_here_.data() + row * width, width});
  stream_->upload(reinterpret_cast<std::byte*>(x_), x_here_.data(), x_here_.size() * sizeof(float));
  return {};
}

result<void> device_operations::set_stream(const float* stream, std::span<const std::uint32_t> rows) {
  const std::size_t width = config_.hidden_size;
  x_here_.clear();
  for (const std::uint32_t row : rows)
    x_here_.insert(x_here_.end(), stream + row * width, stream + (row + 1) * width);
  stream_->upload(reinterpret_cast<std::byte*>(x_), x_here_.data(), x_here_.size() * sizeof(float));
  return {};
}

result<void> device_operations::read_stream(std::uint32_t rows, float* out) {
  return download(out, x_, std::size_t{rows} * config_.hidden_size * sizeof(float));
}

void device_operations::norm(const float* weight, std::uint32_t rows, std::byte* out, kernels::dtype type) {
  kernels_.norm_rows({.x = x_,
                      .x_stride = config_.hidden_size,
                      .out = out,
                      .out_stride = config_.hidden_size,
                      .out_type = type,
                      .rows = rows,
                      .columns = config_.hidden_size,
                      .weight = weight,
                      .epsilon = static_cast<float>(config_.rms_norm_eps)},
                     *stream_);
}

void device_operations::norm_heads(float* heads, std::uint32_t count, const float* weight,
                                   std::uint32_t rows) {
  kernels_.norm_rows({.x = heads,
                      .x_stride = qkv_width_,
                      .out = reinterpret_cast<std::byte*>(heads),
                      .out_stride = qkv_width_,
                      .rows = rows,
                      .groups = count,
                      .columns = config_.head_dim,
                      .weight = weight,
                      .epsilon = static_cast<float>(config_.rms_norm_eps)},
                     *stream_);
}

// Of what `input_` holds.
void device_operations::multiply(const resident_matrix& matrix, std::uint32_t rows, std::uint32_t outputs,
                                 float* y, std::size_t y_stride, bool add) {
  engine::multiply(matrix,
                   {.x = input_, .y = y, .y_stride = y_stride, .rows = rows, .outputs = outputs, .add = add},
                   kernels_, *stream_);
}

// As many outputs as are wanted, queries first; queries are normalised.
void device_operations::project_first(std::uint32_t layer, std::uint32_t outputs, std::uint32_t rows,
                                      float* to) {
  const resident_layer& weights = resident_.layer(layer);
  norm(weights.attention_norm, rows, input_, weights.qkv.type);
  multiply(weights.qkv, rows, outputs, to, qkv_width_, false);
  if (config_.qk_norm) norm_heads(to, config_.query_heads, weights.query_norm, rows);
}

void device_operations::project(std::uint32_t layer, std::uint32_t rows) {
  layer_ = layer;
  keys_are_home_ = false;
  project_first(layer, qkv_width_, rows, qkv_);
  if (config_.qk_norm)
    norm_heads(qkv_ + query_width_, config_.kv_heads, resident_.layer(layer).key_norm, rows);
}

// Not rounded, as `project` does.
const float* device_operations::norm_input(std::uint32_t layer, std::uint32_t rows) {
  norm(resident_.layer(layer).attention_norm, rows, reinterpret_cast<std::byte*>(other_x_),
       kernels::dtype::f32);
  return other_x_;
}

void device_operations::show_input_there(std::uint32_t layer, const row_chunk& chunk,
                                         forward_observer& observer) {
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  observer.layer_input_there(layer, chunk.first_row, rows, norm_input(layer, rows), *stream_);
}

result<const float*> device_operations::show_input(std::uint32_t layer, std::uint32_t rows) {
  const float* const there = norm_input(layer, rows);
  shown_.resize(std::size_t{rows} * config_.hidden_size);
  if (auto done = download(shown_.data(), there, shown_.size() * sizeof(float)); !done)
    return tl::unexpected(done.error());
  return shown_.data();
}

void device_operations::round_keys_and_values(std::uint32_t rows) {
  for (const std::size_t part : {0U, 1U})
    kernels_.round_rows({.x = qkv_ + query_width_ + part * key_width_,
                         .x_stride = qkv_width_,
                         .out = keys_ + part * keys_bytes_,
                         .out_type = shape_.dtype,
                         .rows = rows,
                         .columns = key_width_},
                        *stream_);
}

result<shown_keys> device_operations::show_keys(std::uint32_t) {
  std::byte* const here = home_of(layer_);
  if (auto done = download(here, keys_, 2 * keys_bytes_); !done) return tl::unexpected(done.error());
  keys_are_home_ = true;
  return shown_keys{here, here + keys_bytes_};
}

void device_operations::show_keys_there(std::uint32_t layer, const row_chunk& chunk,
                                        forward_observer& observer) {
  observer.layer_kv_there(layer, chunk.first_row, static_cast<std::uint32_t>(chunk.tokens.size()), keys_,
                          keys_ + keys_bytes_, *stream_);
}

result<shown_queries> device_operations::shown_of(const float* queries, std::uint32_t rows) {
  queries_here_.resize(std::size_t{rows} * qkv_width_);
  if (auto done = download(queries_here_.data(), queries, queries_here_.size() * sizeof(float)); !done)
    return tl::unexpected(done.error());
  return shown_queries{queries_here_.data(), qkv_width_};
}

result<shown_queries> device_operations::show_queries(std::uint32_t rows) {
  return shown_of(qkv_, rows);
}

void device_operations::rotate_queries(float* queries, std::uint32_t rows) {
  kernels_.rotate_rows({.x = queries,
                        .x_stride = qkv_width_,
                        .rotations = rotations_there_,
                        .rows = rows,
                        .heads = config_.query_heads,
                        .head_dim = config_.head_dim},
                       *stream_);
}

result<shown_queries> device_operations::show_queries_ahead(std::uint32_t layer, std::uint32_t rows, bool) {
  project_first(layer, query_width_, rows, other_qkv_);
  rotate_queries(other_qkv_, rows);
  return shown_of(other_qkv_, rows);
}

result<void> device_operations::keep(std::span<const std::uint32_t> rows) {
  const auto* const kept = lists_.add(rows);
  if (auto flushed = lists_.flush(); !flushed) return flushed;
  const auto count = static_cast<std::uint32_t>(rows.size());
  const auto move = [&](float*& from, float*& to, std::size_t stride, std::uint32_t columns) {
    kernels_.move_rows({.from = from,
                        .from_stride = stride,
                        .row = kept,
                        .to = to,
                        .to_stride = stride,
                        .rows = count,
                        .columns = columns},
                       *stream_);
    std::swap(from, to);
  };
  move(x_, other_x_, config_.hidden_size, config_.hidden_size);
  move(qkv_, other_qkv_, qkv_width_, query_width_);
  return {};
}

// Products go to the residual stream. All ranks of a group have the same one: the first adds its part to it,
// the others bring theirs in its place, and the sum is what goes on. As on the CPU: ranks of one group may
// have either.
void device_operations::multiply_attention(std::uint32_t layer, std::uint32_t rows) {
  const resident_matrix& matrix = resident_.layer(layer).attention_out;
  kernels_.round_rows({.x = attention_,
                       .x_stride = query_width_,
                       .out = input_,
                       .out_type = matrix.type,
                       .rows = rows,
                       .columns = query_width_},
                      *stream_);
  multiply(matrix, rows, matrix.outputs, x_, config_.hidden_size, group_.is_first());
}

void device_operations::multiply_mlp(std::uint32_t layer, std::uint32_t rows) {
  const resident_layer& weights = resident_.layer(layer);
  norm(weights.mlp_norm, rows, input_, weights.gate_up.type);
  multiply(weights.gate_up, rows, weights.gate_up.outputs, mlp_, weights.gate_up.outputs, false);
  kernels_.swiglu_rows({.gate_up = mlp_,
                        .out = input_,
                        .out_type = weights.down.type,
                        .rows = rows,
                        .columns = weights.down.inputs},
                       *stream_);
  multiply(weights.down, rows, weights.down.outputs, x_, config_.hidden_size, group_.is_first());
}

void device_operations::compute_logits(std::uint32_t rows, std::byte* out) {
  const resident_matrix& matrix = resident_.output();
  norm(resident_.final_norm(), rows, input_, matrix.type);
  multiply(matrix, rows, matrix.outputs, reinterpret_cast<float*>(out), matrix.outputs, false);
}

result<void> device_operations::add_attention(std::uint32_t layer, std::uint32_t rows) {
  multiply_attention(layer, rows);
  return sum_stream(rows);
}

result<void> device_operations::add_mlp(std::uint32_t layer, std::uint32_t rows) {
  multiply_mlp(layer, rows);
  return sum_stream(rows);
}

result<void> device_operations::sum_stream(std::uint32_t rows) {
  if (group_.alone()) return {};
  const std::size_t values = std::size_t{rows} * config_.hidden_size;
  if (group_.sums_on_devices()) return group_.sum_behind({x_, values}, *stream_);
  auto* const parts = reinterpret_cast<float*>(parts_.data());
  if (auto done = download(parts, x_, values * sizeof(float)); !done) return done;
  if (auto summed = group_.sum({parts, values}); !summed) return summed;
  stream_->upload(reinterpret_cast<std::byte*>(x_), parts, values * sizeof(float));
  return {};
}

result<void> device_operations::write_logits(std::uint32_t rows, std::span<float> logits) {
  const auto there = reserve_logits(rows);
  if (!there) return tl::unexpected(there.error());
  compute_logits(rows, *there);
  return bring_logits(*there, rows, logits);
}

// Of this rank's columns.
result<std::byte*> device_operations::reserve_logits(std::uint32_t rows) {
  return logits_.reserve(*on_->memory, std::size_t{rows} * resident_.output().outputs * sizeof(float),
                         "the logits of a pass");
}

// All of a group's come at once, those of one alone until `finish`.
result<void> device_operations::bring_logits(const std::byte* there, std::uint32_t rows,
                                             std::span<float> logits) {
  if (group_.alone()) {
    stream_->download(logits.data(), there, logits.size_bytes());
    return {};
  }
  const std::span<float> own = group_.part(rows, resident_.output().outputs, config_.vocab_size);
  if (auto done = download(own.data(), there, own.size_bytes()); !done) return done;
  return group_.gather(rows, config_.vocab_size, logits);
}

result<void> device_operations::finish() {
  if (auto done = wait(); !done) return done;
  if (auto brought = stage_->wait(); !brought) return brought;
  bring_home();
  counting_.bring_home();
  return {};
}

}  // namespace weft::engine
