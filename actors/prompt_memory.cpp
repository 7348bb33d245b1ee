#include "prompt_memory.hpp"

#include <weft/engine/stitch.hpp>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

namespace weft::actors {

namespace {

struct charged_rows {
  cache_charge charge;
  engine::kv_cache rows;
};

}  // namespace

prompt_memory::prompt_memory(std::shared_ptr<engine::runner> model, const engine_memory& limits)
    : model_(std::move(model)),
      limit_bytes_(limits.limit_bytes),
      openings_(limits.idle_opening_bytes),
      bases_(limits.idle_base_bytes) {}

engine::kv_shape prompt_memory::shape_in(kernels::row_codec coding) const {
  engine::kv_shape shape = model_->cache_shape();
  shape.coding = coding;
  return shape;
}

std::uint64_t prompt_memory::bytes_of(std::span<const std::uint32_t> capacity_rows,
                                      kernels::row_codec coding) const {
  const engine::kv_shape shape = shape_in(coding);
  const std::uint64_t rows = std::accumulate(capacity_rows.begin(), capacity_rows.end(), std::uint64_t{0});
  return rows * 2 * (shape.row_bytes() + shape.row_scales() * sizeof(std::uint16_t));
}

std::vector<std::uint32_t> prompt_memory::capacity_of(const computed_rows& rows) const {
  const auto shape = model_->cache_shape();
  return std::vector<std::uint32_t>(std::size_t{shape.layers} * shape.kv_heads, rows.last - rows.first);
}

std::uint64_t prompt_memory::bytes_of(const computed_rows& rows) const {
  return bytes_of(capacity_of(rows));
}

result<void> prompt_memory::make_room(std::uint64_t bytes) {
  if (limit_bytes_ == 0) return {};
  const auto fits = [&] { return bytes + *charged_bytes_ <= limit_bytes_; };
  while (!fits() && (bases_.drop_idle() || openings_.drop_idle())) {
  }
  if (fits()) return {};
  return fail(errc::out_of_space,
              "the question needs " + std::to_string(bytes) + " bytes of KV cache and " +
                  std::to_string(limit_bytes_ - std::min(limit_bytes_, *charged_bytes_)) + " of " +
                  std::to_string(limit_bytes_) +
                  " are free; ask about fewer documents, or with --retrieval and a lower --sparse-ratio");
}

result<cache_charge> prompt_memory::take(std::uint64_t bytes) {
  if (auto room = make_room(bytes); !room) return tl::make_unexpected(room.error());
  return cache_charge{charged_bytes_, bytes};
}

std::shared_ptr<engine::kv_cache> prompt_memory::shared_rows(cache_charge charge,
                                                             std::shared_ptr<const engine::kv_cache> before,
                                                             std::span<const std::uint32_t> capacity_rows,
                                                             kernels::row_codec coding) {
  auto charged = std::make_shared<charged_rows>(
      charged_rows{std::move(charge), {std::move(before), shape_in(coding), capacity_rows}});
  auto* const rows = &charged->rows;
  return {std::move(charged), rows};
}

bool prompt_memory::has_documents(const session_order& order) {
  if (!order.base) return true;
  return (order.prefix && bases_.find(order.prefix->key)) || bases_.find(order.base->key);
}

result<prompt_rows> prompt_memory::with_room(prompt_rows rows, std::uint64_t own_bytes,
                                             std::uint64_t prefix_bytes) {
  if (auto room = make_room(own_bytes + prefix_bytes); !room) return tl::make_unexpected(room.error());
  rows.own = {charged_bytes_, own_bytes};
  rows.prefix = {charged_bytes_, prefix_bytes};
  return rows;
}

// Computed alone: nothing stands before it.
result<void> prompt_memory::add_opening(prompt_rows& rows, const session_order& order) {
  if (!order.opening) return {};
  const auto& opening = *order.opening;
  rows.next_row = opening.last;
  rows.behind = openings_.find(opening.key);
  if (rows.behind) {
    rows.reused_rows = opening.last;
    return {};
  }
  auto charge = take(bytes_of(opening));
  if (!charge) return tl::make_unexpected(charge.error());
  auto computed = shared_rows(std::move(*charge), nullptr, capacity_of(opening));
  if (auto done = engine::prefill_part(*model_, *computed, *order.plan, {opening.first, opening.last}, {});
      !done)
    return done;
  rows.behind = std::move(computed);
  openings_.insert(opening.key, rows.behind);
  return {};
}

result<prompt_rows> prompt_memory::open(const session_order& order) {
  prompt_rows rows;
  const auto own_bytes = bytes_of(order.capacity_rows);
  if (order.prefix && (rows.behind = bases_.find(order.prefix->key))) {
    rows.next_row = rows.reused_rows = order.plan->rows_before_question();
    return with_room(std::move(rows), own_bytes, 0);
  }
  const auto prefix_bytes = order.prefix ? bytes_of(*order.prefix) : 0;
  if (order.base && (rows.behind = bases_.find(order.base->key))) {
    const auto opening_rows = order.opening ? order.opening->last : 0;
    rows.next_row = rows.reused_rows =
        order.base->computes ? order.plan->rows_before_question() : opening_rows;
    return with_room(std::move(rows), own_bytes, prefix_bytes);
  }
  if (auto opened = add_opening(rows, order); !opened) return tl::make_unexpected(opened.error());
  if (!order.base) return with_room(std::move(rows), own_bytes, prefix_bytes);

  std::uint64_t base_bytes = 0;
  for (const auto& part : order.base->parts)
    base_bytes += bytes_of(part.capacity_rows, part.coding);
  if (auto room = make_room(own_bytes + prefix_bytes + base_bytes); !room)
    return tl::make_unexpected(room.error());
  std::shared_ptr<const engine::kv_cache> before = rows.behind;
  for (const auto& part : order.base->parts) {
    rows.loading.push_back(shared_rows({charged_bytes_, bytes_of(part.capacity_rows, part.coding)}, before,
                                       part.capacity_rows, part.coding));
    before = rows.loading.back();
  }
  if (order.base->computes)
    if (auto reserved = engine::reserve_computed_rows(*rows.loading.back(), *order.plan, rows.next_row);
        !reserved)
      return tl::make_unexpected(reserved.error());
  return with_room(std::move(rows), own_bytes, prefix_bytes);
}

// The documents are loaded: what their plan computes among them, then nobody changes it any more.
result<void> prompt_memory::fill_base(prompt_rows& rows, const session_order& order) {
  if (rows.loading.empty()) return {};
  if (order.base->computes) {
    const auto last = order.plan->rows_before_question();
    if (auto done =
            engine::prefill_part(*model_, *rows.loading.back(), *order.plan, {rows.next_row, last}, {});
        !done)
      return done;
    rows.next_row = last;
  }
  rows.behind = std::move(rows.loading.back());
  rows.loading.clear();
  bases_.insert(order.base->key, rows.behind);
  return {};
}

result<void> prompt_memory::add_prefix(prompt_rows& rows, const session_order& order) {
  if (!order.prefix || rows.next_row == order.prefix->last) return {};
  const auto& prefix = *order.prefix;
  auto charge = std::exchange(rows.prefix, {});
  if (auto known = bases_.find(prefix.key)) {  // another session was faster
    rows.reused_rows += prefix.last - prefix.first;
    rows.behind = std::move(known);
  } else {
    auto computed = shared_rows(std::move(charge), rows.behind, capacity_of(prefix));
    if (auto done = engine::prefill_part(*model_, *computed, *order.plan, {prefix.first, prefix.last}, {});
        !done)
      return done;
    rows.behind = std::move(computed);
    bases_.insert(prefix.key, rows.behind);
  }
  rows.next_row = prefix.last;
  return {};
}

result<void> prompt_memory::complete(prompt_rows& rows, const session_order& order) {
  if (auto filled = fill_base(rows, order); !filled) return filled;
  return add_prefix(rows, order);
}

void prompt_memory::tidy() {
  bases_.tidy();
  openings_.tidy();
}

}  // namespace weft::actors
