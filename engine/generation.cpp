#include <weft/engine/generation.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace weft::engine {

namespace {

bool is_full(const kv_cache& cache) {
  const kv_shape& shape = cache.shape();
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      if (cache.rows(layer, head) == cache.capacity_rows(layer, head)) return true;
  return false;
}

result<void> check(const sampling& sampled) {
  if (!(sampled.temperature >= 0) || !(sampled.top_p > 0 && sampled.top_p <= 1))
    return fail(errc::invalid_argument,
                "temperature " + std::to_string(sampled.temperature) + " and top_p " +
                    std::to_string(sampled.top_p) +
                    " are wrong; a temperature is at least 0, top_p above 0 and at most 1");
  return {};
}

}  // namespace

decode_batch::decode_batch(runner& model) : model_(model) {}

result<generated_token> decode_batch::add(session_id id, kv_cache cache, std::int32_t next_position,
                                          std::span<const float> logits, const generation_options& options) {
  if (std::ranges::find(sessions_, id, &session::id) != sessions_.end())
    return fail(errc::invalid_argument, "session " + std::to_string(id) + " is generating already");
  if (logits.size() != model_.config().vocab_size)
    return fail(errc::invalid_argument, "a session starts from the logits of one row");
  if (options.max_tokens == 0)
    return fail(errc::invalid_argument, "an answer of 0 tokens cannot be generated; ask for at least 1");
  if (auto checked = check(options.sampled); !checked) return tl::unexpected(checked.error());
  sessions_.push_back({.id = id,
                       .cache = std::move(cache),
                       .choose = sampler(options.sampled),
                       .stop_tokens = options.stop_tokens,
                       .tokens_left = options.max_tokens,
                       .next_position = next_position,
                       .last_token = 0});
  session& added = sessions_.back();
  accept(added, added.choose.next(logits));
  return generated_token{id, added.last_token, added.state};
}

result<kv_cache> decode_batch::remove(session_id id) {
  const auto found = std::ranges::find(sessions_, id, &session::id);
  if (found == sessions_.end()) return fail(errc::not_found, "there is no session " + std::to_string(id));
  kv_cache cache = std::move(found->cache);
  sessions_.erase(found);
  return cache;
}

void decode_batch::accept(session& s, token_id token) {
  s.last_token = token;
  --s.tokens_left;
  if (std::ranges::find(s.stop_tokens, token) != s.stop_tokens.end())
    s.state = finish::stop_token;
  else if (s.tokens_left == 0)
    s.state = finish::max_tokens;
  else if (is_full(s.cache))
    s.state = finish::cache_full;
}

result<std::span<const generated_token>> decode_batch::step() {
  rows_.clear();
  caches_.clear();
  stepping_.clear();
  tokens_.clear();
  for (session& s : sessions_) {
    if (s.state != finish::running) continue;
    const auto row = static_cast<std::uint32_t>(stepping_.size());
    rows_.add(s.last_token, s.next_position, 0, row);
    rows_.logits_rows.push_back(row);
    caches_.push_back(&s.cache);
    stepping_.push_back(&s);
  }
  const std::size_t vocab = model_.config().vocab_size;
  logits_.resize(stepping_.size() * vocab);
  if (auto computed = model_.forward(rows_, caches_, logits_); !computed)
    return tl::unexpected(computed.error());
  for (std::size_t i = 0; i < stepping_.size(); ++i) {
    session& s = *stepping_[i];
    ++s.next_position;
    accept(s, s.choose.next(std::span(logits_).subspan(i * vocab, vocab)));
    tokens_.push_back({s.id, s.last_token, s.state});
  }
  return std::span<const generated_token>(tokens_);
}

std::size_t decode_batch::active() const {
  return static_cast<std::size_t>(std::ranges::count(sessions_, finish::running, &session::state));
}

}  // namespace weft::engine
