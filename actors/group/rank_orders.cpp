#include "rank_orders.hpp"

#include "order_bytes.hpp"

#include <string>
#include <type_traits>

// Next to the types, where the coders find them.
namespace weft {

template <class Coder, class Id>
requires std::is_same_v<std::remove_const_t<Id>, id128>
void fields(Coder& c, Id& x) {
  c(x.high, x.low);
}

namespace block {
template <class Coder, class Expectation>
requires std::is_same_v<std::remove_const_t<Expectation>, expectation>
void fields(Coder& c, Expectation& x) {
  c(x.key, x.any_fingerprint, x.fingerprint, x.any_life, x.generation, x.incarnation);
}
}  // namespace block

namespace policies {
template <class Coder, class Document>
requires std::is_same_v<std::remove_const_t<Document>, placed_document>
void fields(Coder& c, Document& x) {
  c(x.start_position, x.rotated_position, x.segment, x.tokens, x.source);
}

template <class Coder, class Row>
requires std::is_same_v<std::remove_const_t<Row>, planned_row>
void fields(Coder& c, Row& x) {
  c(x.token, x.position, x.segment, x.origin);
}

template <class Coder, class Selector>
requires std::is_same_v<std::remove_const_t<Selector>, row_selector>
void fields(Coder& c, Selector& x) {
  c(x.layer, x.rows);
}

template <class Coder>
void fields(Coder& c, const stitch_plan& x) {
  c(x.documents, x.rows, x.prompt_tokens, x.document_tokens, x.recomputed_rows, x.question_rows,
    x.selector.has_value());
  c(x.selector.value_or(row_selector{}));
}

template <class Coder>
void fields(Coder& c, stitch_plan& x) {
  bool selects = false;
  row_selector selector;
  c(x.documents, x.rows, x.prompt_tokens, x.document_tokens, x.recomputed_rows, x.question_rows, selects);
  c(selector);
  if (selects) x.selector = selector;
}
}  // namespace policies

namespace actors {

namespace {

constexpr std::uint64_t most_order_bytes = std::uint64_t{1} << 30;

struct order_header {
  order_kind kind{};
  std::uint32_t reserved = 0;
  std::uint64_t bytes = 0;
};

template <class Coder, class Order>
void code(Coder& c, Order& x) requires std::is_same_v<std::remove_const_t<Order>, open_ranks> {
  c(x.session, x.capacity_rows, x.plan);
}

template <class Coder, class Order>
void code(Coder& c, Order& x) requires std::is_same_v<std::remove_const_t<Order>, load_ranks> {
  c(x.session, x.start_position, x.segment, x.bands, x.blocks, x.tokens);
}

template <class Coder, class Order>
void code(Coder& c, Order& x) requires std::is_same_v<std::remove_const_t<Order>, generate_ranks> {
  c(x.session, x.plan, x.temperature, x.top_p, x.seed, x.max_tokens);
}

template <class Coder, class Order>
void code(Coder& c, Order& x) requires std::is_same_v<std::remove_const_t<Order>, query_ranks> {
  c(x.tokens, x.layer, x.rows);
}

template <class Coder, class Order>
void code(Coder& c, Order& x) requires std::is_same_v<std::remove_const_t<Order>, std::uint64_t> {
  c(x);
}

template <class Order>
std::vector<std::byte> written(const Order& order) {
  order_writer to;
  code(to, order);
  return {to.bytes().begin(), to.bytes().end()};
}

template <class Order>
result<void> read_whole(std::span<const std::byte> bytes, Order& order) {
  order_reader from(bytes);
  code(from, order);
  return from.end();
}

}  // namespace

std::vector<std::byte> to_bytes(const open_ranks& order) {
  return written(order);
}

std::vector<std::byte> to_bytes(const load_ranks& order) {
  return written(order);
}

std::vector<std::byte> to_bytes(const generate_ranks& order) {
  return written(order);
}

std::vector<std::byte> to_bytes(const query_ranks& order) {
  return written(order);
}

std::vector<std::byte> to_bytes(std::uint64_t session) {
  return written(session);
}

result<void> read(std::span<const std::byte> bytes, open_ranks& order) {
  return read_whole(bytes, order);
}

result<void> read(std::span<const std::byte> bytes, load_ranks& order) {
  return read_whole(bytes, order);
}

result<void> read(std::span<const std::byte> bytes, generate_ranks& order) {
  return read_whole(bytes, order);
}

result<void> read(std::span<const std::byte> bytes, query_ranks& order) {
  return read_whole(bytes, order);
}

result<void> read(std::span<const std::byte> bytes, std::uint64_t& session) {
  return read_whole(bytes, session);
}

result<void> give_order(collective::communicator& group, order_kind kind, std::span<const std::byte> fields) {
  order_header header{.kind = kind, .bytes = fields.size()};
  if (auto told = group.broadcast(std::as_writable_bytes(std::span(&header, 1)), 0); !told) return told;
  if (fields.empty()) return {};
  std::vector<std::byte> copy{fields.begin(), fields.end()};
  return group.broadcast(copy, 0);
}

result<rank_order> take_order(collective::communicator& group) {
  order_header header;
  if (auto told = group.broadcast(std::as_writable_bytes(std::span(&header, 1)), 0); !told)
    return tl::make_unexpected(told.error());
  if (header.kind > order_kind::queries || header.bytes > most_order_bytes)
    return fail(errc::corrupt, "the group's leading rank gave an order " +
                                   std::to_string(static_cast<std::uint32_t>(header.kind)) + " of " +
                                   std::to_string(header.bytes) + " bytes; do all ranks run one version?");
  rank_order order{header.kind, std::vector<std::byte>(header.bytes)};
  if (order.fields.empty()) return order;
  if (auto told = group.broadcast(order.fields, 0); !told) return tl::make_unexpected(told.error());
  return order;
}

}  // namespace actors
}  // namespace weft
