#include <weft/actors/pool_wire.hpp>

#include <algorithm>
#include <bit>
#include <concepts>
#include <cstring>
#include <string>

namespace weft::actors::wire {

namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little endian and copied as it is");

constexpr std::size_t key_bytes = 16;
constexpr std::size_t node_ref_bytes = 24;
constexpr std::size_t slot_bytes = 32;
constexpr std::size_t offered_bytes = 40;
constexpr std::size_t announced_bytes = 24;
constexpr std::size_t holder_bytes = 2;
constexpr std::uint8_t maybe_bit = 0x80;
constexpr std::uint32_t background_bit = 1;
constexpr std::uint32_t replace_bit = 2;
constexpr std::uint8_t highest_errc = static_cast<std::uint8_t>(errc::internal);
constexpr std::uint8_t highest_kind = static_cast<std::uint8_t>(machines::item_kind::opaque);

template <std::unsigned_integral Integer>
void put(message& out, Integer value) {
  const auto at = out.size();
  out.resize(at + sizeof value);
  std::memcpy(out.data() + at, &value, sizeof value);
}

void put(message& out, const id128& id) {
  put(out, id.high);
  put(out, id.low);
}

void put(message& out, const machines::node_ref& ref) {
  put(out, ref.node);
  put(out, ref.incarnation);
}

void pad(message& out, std::size_t bytes) {
  out.resize(out.size() + bytes);
}

// Takes a body apart. What is read beyond the end is zero, and the body is not `whole`.
class reader {
 public:
  explicit reader(std::span<const std::byte> rest) : rest_(rest) {}

  template <std::unsigned_integral Integer>
  Integer take() {
    Integer value{};
    if (rest_.size() < sizeof value) {
      failed_ = true;
      return value;
    }
    std::memcpy(&value, rest_.data(), sizeof value);
    rest_ = rest_.subspan(sizeof value);
    return value;
  }
  id128 take_id() {
    const auto high = take<std::uint64_t>();
    return {high, take<std::uint64_t>()};
  }
  machines::node_ref take_ref() {
    const auto node = take_id();
    return {node, take<std::uint64_t>()};
  }
  void skip(std::size_t bytes) {
    failed_ = failed_ || bytes > rest_.size();
    if (!failed_) rest_ = rest_.subspan(bytes);
  }
  // So many bytes, and what their number says.
  std::string take_bytes() {
    const std::size_t bytes = take_count(rest_.size(), 1);
    std::string taken(reinterpret_cast<const char*>(rest_.data()), bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }
  // So many items of at least so many bytes each may follow.
  std::size_t take_count(std::size_t limit, std::size_t least_bytes) {
    const std::size_t count = take<std::uint32_t>();
    if (count > limit || rest_.size() / least_bytes < count) failed_ = true;
    return failed_ ? 0 : count;
  }
  void refuse_unless(bool good) { failed_ = failed_ || !good; }
  bool failed() const { return failed_; }
  bool whole() const { return !failed_ && rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool failed_ = false;
};

template <class Body>
result<Body> if_whole(const reader& in, Body&& body, const char* what) {
  if (in.whole()) return std::forward<Body>(body);
  return fail(errc::corrupt, std::string{what} +
                                 " of another form than the protocol's; do the nodes run the "
                                 "same version?");
}

void put_bytes(message& out, const std::string& bytes) {
  put(out, static_cast<std::uint32_t>(bytes.size()));
  const auto at = out.size();
  out.resize(at + bytes.size());
  std::memcpy(out.data() + at, bytes.data(), bytes.size());
}

void put_keys(message& out, const std::vector<id128>& keys) {
  put(out, static_cast<std::uint32_t>(keys.size()));
  for (const auto& key : keys)
    put(out, key);
}

std::vector<id128> take_keys(reader& in) {
  std::vector<id128> keys(in.take_count(max_keys_per_message, key_bytes));
  for (auto& key : keys)
    key = in.take_id();
  return keys;
}

machines::item_kind take_kind(reader& in) {
  const auto kind = in.take<std::uint8_t>();
  in.refuse_unless(kind <= highest_kind);
  return static_cast<machines::item_kind>(kind);
}

std::size_t told_holders(const machines::located& found, std::size_t key) {
  return std::min(found.holders_of(key).size(), max_holders_per_key);
}

}  // namespace

// -- header ---------------------------------------------------------------------------------------

message begin() {
  return message(call_header_bytes);
}

void set_header(message& whole, const call_header& header) {
  std::memcpy(whole.data(), &header.call, sizeof header.call);
  whole[8] = static_cast<std::byte>(header.kind);
  whole[9] = static_cast<std::byte>(header.part);
  whole[10] = static_cast<std::byte>(header.why);
}

result<call_header> parse_header(std::span<const std::byte> whole) {
  if (whole.size() < call_header_bytes)
    return fail(errc::corrupt, "a pool message of " + std::to_string(whole.size()) + " bytes");
  call_header header;
  std::memcpy(&header.call, whole.data(), sizeof header.call);
  const auto kind = std::to_integer<std::uint8_t>(whole[8]);
  const auto part = std::to_integer<std::uint8_t>(whole[9]);
  const auto why = std::to_integer<std::uint8_t>(whole[10]);
  if (kind == 0 || kind >= call_kinds || part > static_cast<std::uint8_t>(call_part::refusal) ||
      why > highest_errc)
    return fail(errc::corrupt, "a pool message of an unknown kind " + std::to_string(kind));
  header.kind = static_cast<call_kind>(kind);
  header.part = static_cast<call_part>(part);
  header.why = static_cast<errc>(why);
  return header;
}

// -- writing --------------------------------------------------------------------------------------

void append(message& out, const key_list& keys) {
  out.reserve(out.size() + 4 + keys.keys.size() * key_bytes);
  put_keys(out, keys.keys);
}

void append(message& out, const lease_request& wanted) {
  out.reserve(out.size() + node_ref_bytes + 8 + wanted.keys.size() * (key_bytes + sizeof(std::uint64_t)));
  put(out, wanted.reader);
  put_keys(out, wanted.keys);
  put(out, static_cast<std::uint32_t>(wanted.front_bytes.size()));
  for (const auto front : wanted.front_bytes)
    put(out, front);
}

void append(message& out, const lease_reply& reply) {
  out.reserve(out.size() + node_ref_bytes + 12 + reply.slots.size() * slot_bytes);
  put(out, reply.holder);
  put(out, reply.lease);
  put(out, static_cast<std::uint32_t>(reply.slots.size()));
  for (const auto& slot : reply.slots) {
    put(out, static_cast<std::uint8_t>(slot.outcome));
    put(out, static_cast<std::uint8_t>(slot.kind));
    put(out, static_cast<std::uint8_t>(slot.pinned ? 1 : 0));
    pad(out, 5);
    put(out, slot.offset);
    put(out, slot.bytes);
    put(out, slot.generation);
  }
}

void append(message& out, const offer& what) {
  out.reserve(out.size() + node_ref_bytes + 20 + what.blocks.size() * offered_bytes);
  put(out, what.writer);
  put(out, what.timeout_ns);
  put(out, what.tenant);
  put(out, (what.background ? background_bit : 0U) | (what.replace ? replace_bit : 0U));
  put(out, static_cast<std::uint32_t>(what.blocks.size()));
  for (const auto& block : what.blocks) {
    put(out, block.key);
    put(out, block.offset);
    put(out, block.bytes);
    put(out, static_cast<std::uint8_t>(block.kind));
    pad(out, 7);
  }
}

void append(message& out, const offer_reply& reply) {
  put(out, static_cast<std::uint32_t>(reply.outcomes.size()));
  for (const auto outcome : reply.outcomes)
    put(out, outcome);
}

void append(message& out, const announcement& news) {
  out.reserve(out.size() + node_ref_bytes + 20 + news.keys.size() * announced_bytes);
  put(out, news.holder);
  put(out, news.complete_epoch);
  put(out, news.sequence);
  put(out, static_cast<std::uint32_t>(news.keys.size()));
  for (const auto& item : news.keys) {
    put(out, item.key);
    put(out, static_cast<std::uint8_t>(item.kind));
    pad(out, 7);
  }
}

void append(message& out, const withdrawal& gone) {
  out.reserve(out.size() + node_ref_bytes + 12 + gone.keys.size() * key_bytes);
  put(out, gone.holder);
  put(out, gone.sequence);
  put_keys(out, gone.keys);
}

void append(message& out, const retrieval_queries& asked) {
  out.reserve(out.size() + node_ref_bytes + 20 + asked.layers.size() * 4 + asked.queries.size());
  put(out, asked.reader);
  put(out, asked.number);
  put(out, asked.steps);
  put(out, static_cast<std::uint32_t>(asked.layers.size()));
  for (const auto layer : asked.layers)
    put(out, layer);
  put_bytes(out, asked.queries);
}

void append(message& out, const retrieval_scores& scores) {
  put(out, static_cast<std::uint32_t>(scores.sums.size()));
  for (std::size_t i = 0; i < scores.sums.size(); ++i) {
    put_bytes(out, scores.sums[i]);
    put_bytes(out, scores.totals[i]);
  }
}

void append_lease(message& out, std::uint64_t lease) {
  put(out, lease);
}

void append(message& out, const machines::located& found, std::size_t keys) {
  out.reserve(out.size() + 8 + found.nodes.size() * node_ref_bytes + keys +
              found.holders.size() * holder_bytes);
  put(out, static_cast<std::uint32_t>(keys));
  put(out, static_cast<std::uint32_t>(found.nodes.size()));
  for (const auto& node : found.nodes)
    put(out, node);
  for (std::size_t i = 0; i < keys; ++i) {
    const auto holders = found.holders_of(i).first(told_holders(found, i));
    const bool maybe = holders.empty() && !found.complete;
    put(out, static_cast<std::uint8_t>(holders.size() | (maybe ? maybe_bit : 0)));
    for (const auto holder : holders)
      put(out, holder);
  }
}

// -- reading --------------------------------------------------------------------------------------

result<key_list> parse_key_list(std::span<const std::byte> body) {
  reader in{body};
  key_list keys{take_keys(in)};
  return if_whole(in, std::move(keys), "a list of keys");
}

result<lease_request> parse_lease_request(std::span<const std::byte> body) {
  reader in{body};
  lease_request wanted;
  wanted.reader = in.take_ref();
  wanted.keys = take_keys(in);
  wanted.front_bytes.resize(in.take_count(wanted.keys.size(), sizeof(std::uint64_t)));
  for (auto& front : wanted.front_bytes)
    front = in.take<std::uint64_t>();
  return if_whole(in, std::move(wanted), "a lease request");
}

result<lease_reply> parse_lease_reply(std::span<const std::byte> body) {
  reader in{body};
  lease_reply reply;
  reply.holder = in.take_ref();
  reply.lease = in.take<std::uint64_t>();
  reply.slots.resize(in.take_count(max_items_per_call, slot_bytes));
  for (auto& slot : reply.slots) {
    const auto outcome = in.take<std::uint8_t>();
    in.refuse_unless(outcome <= highest_errc);
    slot.outcome = static_cast<errc>(outcome);
    slot.kind = take_kind(in);
    slot.pinned = (in.take<std::uint8_t>() & 1U) != 0;
    in.skip(5);
    slot.offset = in.take<std::uint64_t>();
    slot.bytes = in.take<std::uint64_t>();
    slot.generation = in.take<std::uint64_t>();
  }
  return if_whole(in, std::move(reply), "a lease");
}

result<offer> parse_offer(std::span<const std::byte> body) {
  reader in{body};
  offer what;
  what.writer = in.take_ref();
  what.timeout_ns = in.take<std::uint64_t>();
  what.tenant = in.take<std::uint32_t>();
  const auto marks = in.take<std::uint32_t>();
  what.background = (marks & background_bit) != 0;
  what.replace = (marks & replace_bit) != 0;
  what.blocks.resize(in.take_count(max_items_per_call, offered_bytes));
  for (auto& block : what.blocks) {
    block.key = in.take_id();
    block.offset = in.take<std::uint64_t>();
    block.bytes = in.take<std::uint64_t>();
    block.kind = take_kind(in);
    in.skip(7);
  }
  return if_whole(in, std::move(what), "an offer");
}

result<offer_reply> parse_offer_reply(std::span<const std::byte> body) {
  reader in{body};
  offer_reply reply;
  reply.outcomes.resize(in.take_count(max_items_per_call, 1));
  for (auto& outcome : reply.outcomes) {
    outcome = in.take<std::uint8_t>();
    in.refuse_unless(outcome <= highest_errc);
  }
  return if_whole(in, std::move(reply), "an answer to an offer");
}

result<announcement> parse_announcement(std::span<const std::byte> body) {
  reader in{body};
  announcement news;
  news.holder = in.take_ref();
  news.complete_epoch = in.take<std::uint64_t>();
  news.sequence = in.take<std::uint64_t>();
  news.keys.resize(in.take_count(max_keys_per_message, announced_bytes));
  for (auto& item : news.keys) {
    item.key = in.take_id();
    item.kind = take_kind(in);
    in.skip(7);
  }
  return if_whole(in, std::move(news), "an announcement");
}

result<withdrawal> parse_withdrawal(std::span<const std::byte> body) {
  reader in{body};
  withdrawal gone;
  gone.holder = in.take_ref();
  gone.sequence = in.take<std::uint64_t>();
  gone.keys = take_keys(in);
  return if_whole(in, std::move(gone), "a withdrawal");
}

result<retrieval_queries> parse_retrieval_queries(std::span<const std::byte> body) {
  reader in{body};
  retrieval_queries asked;
  asked.reader = in.take_ref();
  asked.number = in.take<std::uint64_t>();
  asked.steps = in.take<std::uint32_t>();
  asked.layers.resize(in.take_count(max_items_per_call, sizeof(std::uint32_t)));
  for (auto& layer : asked.layers)
    layer = in.take<std::uint32_t>();
  asked.queries = in.take_bytes();
  return if_whole(in, std::move(asked), "queries");
}

result<retrieval_scores> parse_retrieval_scores(std::span<const std::byte> body) {
  reader in{body};
  retrieval_scores scores;
  const auto layers = in.take_count(max_items_per_call, 2 * sizeof(std::uint32_t));
  for (std::size_t i = 0; i < layers && !in.failed(); ++i) {
    scores.sums.push_back(in.take_bytes());
    scores.totals.push_back(in.take_bytes());
  }
  return if_whole(in, std::move(scores), "scores");
}

result<std::uint64_t> parse_lease(std::span<const std::byte> body) {
  reader in{body};
  const auto lease = in.take<std::uint64_t>();
  return if_whole(in, std::uint64_t{lease}, "a release");
}

result<locate_reply> parse_locate_reply(std::span<const std::byte> body) {
  reader in{body};
  const std::size_t keys = in.take<std::uint32_t>();
  std::vector<machines::node_ref> nodes(in.take_count(max_items_per_call, node_ref_bytes));
  for (auto& node : nodes)
    node = in.take_ref();
  in.refuse_unless(keys <= max_keys_per_message);
  locate_reply reply;
  for (std::size_t i = 0; i < keys && !in.failed(); ++i) {
    const auto mark = in.take<std::uint8_t>();
    const std::size_t holders = mark & ~maybe_bit;
    in.refuse_unless(holders <= max_holders_per_key);
    auto& key = reply.keys.emplace_back();
    key.maybe = (mark & maybe_bit) != 0;
    for (std::size_t h = 0; h < holders && !in.failed(); ++h) {
      const auto node = in.take<std::uint16_t>();
      in.refuse_unless(node < nodes.size());
      if (!in.failed()) key.holders.push_back(nodes[node]);
    }
  }
  return if_whole(in, std::move(reply), "an answer to a locate");
}

locate_reply by_key(const machines::located& found, std::size_t keys) {
  locate_reply reply;
  reply.keys.resize(keys);
  for (std::size_t i = 0; i < keys; ++i) {
    for (const auto holder : found.holders_of(i).first(told_holders(found, i)))
      reply.keys[i].holders.push_back(found.nodes[holder]);
    reply.keys[i].maybe = reply.keys[i].holders.empty() && !found.complete;
  }
  return reply;
}

}  // namespace weft::actors::wire
