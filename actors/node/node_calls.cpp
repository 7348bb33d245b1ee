#include <weft/actors/block_store.hpp>
#include <weft/actors/node_calls.hpp>

#include <string>
#include <utility>

namespace weft::actors {

namespace {

using wire::call_kind;

template <class Body>
wire::message message_of(const Body& body) {
  auto message = wire::begin();
  wire::append(message, body);
  return message;
}

// Passes the answer on, taken apart.
template <class Answer, class Parse>
call_table::answered parsed(std::function<void(result<Answer>)> done, Parse parse) {
  return [done = std::move(done), parse](const result<std::span<const std::byte>>& body) {
    done(body ? parse(*body) : result<Answer>(tl::unexpected{body.error()}));
  };
}

// Answers with the bytes of what comes.
template <class Answer>
auto answering(call_table::responder respond) {
  return [respond = std::move(respond)](const result<Answer>& answer) {
    if (answer) return respond(message_of(*answer));
    respond(tl::unexpected{answer.error()});
  };
}

error no_store() {
  return {errc::not_found, "that node stores no blocks"};
}

// An answer without a body, on both sides.
node_calls::answered<void> acknowledging(call_table::responder respond) {
  return [respond = std::move(respond)](const result<void>& heard) {
    if (heard) return respond(wire::begin());
    respond(tl::unexpected{heard.error()});
  };
}

call_table::answered acknowledged(node_calls::answered<void> done) {
  return [done = std::move(done)](const result<std::span<const std::byte>>& body) {
    done(body ? result<void>{} : tl::unexpected{body.error()});
  };
}

}  // namespace

// -- answering ------------------------------------------------------------------------------------

void node_calls::serve_directory() {
  table_->serve(call_kind::locate, [shard = std::weak_ptr{shard_}](std::span<const std::byte> body,
                                                                   call_table::responder respond) {
    auto wanted = wire::parse_key_list(body);
    const auto alive = shard.lock();
    if (!wanted || !alive) return respond(fail(errc::invalid_argument, "no such question"));
    const auto keys = wanted->keys.size();
    alive->locate(std::move(wanted->keys),
                  [keys, respond = std::move(respond)](const machines::located& found) {
                    auto message = wire::begin();
                    wire::append(message, found, keys);
                    respond(std::move(message));
                  });
  });
  table_->serve(call_kind::announce, [shard = std::weak_ptr{shard_}](std::span<const std::byte> body,
                                                                     call_table::responder respond) {
    auto news = wire::parse_announcement(body);
    const auto alive = shard.lock();
    if (!news || !alive) return respond(fail(errc::invalid_argument, "no such question"));
    alive->announce(std::move(*news), acknowledging(std::move(respond)));
  });
  table_->serve(call_kind::withdraw, [shard = std::weak_ptr{shard_}](std::span<const std::byte> body,
                                                                     call_table::responder respond) {
    auto gone = wire::parse_withdrawal(body);
    const auto alive = shard.lock();
    if (!gone || !alive) return respond(fail(errc::invalid_argument, "no such question"));
    alive->withdraw(std::move(*gone), acknowledging(std::move(respond)));
  });
}

void node_calls::serve(const std::shared_ptr<block_store>& store) {
  serve_directory();
  store_ = store;
  if (!store) return;
  table_->serve(call_kind::lease,
                [here = store_](std::span<const std::byte> body, call_table::responder respond) {
                  auto wanted = wire::parse_lease_request(body);
                  const auto alive = here.lock();
                  if (!wanted || !alive || wanted->keys.size() > wire::max_items_per_call)
                    return respond(fail(errc::invalid_argument, "no such question"));
                  alive->lease(std::move(*wanted), answering<lease_reply>(std::move(respond)));
                });
  table_->serve(call_kind::offer,
                [here = store_](std::span<const std::byte> body, call_table::responder respond) {
                  auto what = wire::parse_offer(body);
                  const auto alive = here.lock();
                  if (!what || !alive) return respond(fail(errc::invalid_argument, "no such question"));
                  alive->take(std::move(*what), answering<offer_reply>(std::move(respond)));
                });
  table_->serve(call_kind::release,
                [here = store_](std::span<const std::byte> body, const call_table::responder&) {
                  const auto lease = wire::parse_lease(body);
                  if (const auto alive = here.lock(); alive && lease) alive->release(*lease);
                });
  table_->serve(call_kind::touch,
                [here = store_](std::span<const std::byte> body, const call_table::responder&) {
                  auto used = wire::parse_key_list(body);
                  if (const auto alive = here.lock(); alive && used) alive->touch(std::move(used->keys));
                });
}

void node_calls::serve_ranking(ranking here) {
  ranking_ = std::move(here);
  table_->serve(call_kind::rank,
                [ranking = ranking_](std::span<const std::byte> body, call_table::responder respond) {
                  auto asked = wire::parse_retrieval_queries(body);
                  if (!asked) return respond(fail(errc::invalid_argument, "no such question"));
                  ranking(std::move(*asked), answering<retrieval_scores>(std::move(respond)));
                });
}

// -- asking ---------------------------------------------------------------------------------------

void node_calls::locate(const id128& node, std::vector<id128> keys, duration timeout,
                        answered<locate_reply> done) {
  if (node == self_) {
    const auto count = keys.size();
    return shard_->locate(std::move(keys), [count, done = std::move(done)](const machines::located& found) {
      done(wire::by_key(found, count));
    });
  }
  const key_list wanted{std::move(keys)};
  table_->ask(node, call_kind::locate, message_of(wanted), timeout,
              parsed<locate_reply>(std::move(done), wire::parse_locate_reply));
}

void node_calls::rank(const id128& node, retrieval_queries asked, duration timeout,
                      answered<retrieval_scores> done) {
  if (node == self_) {
    if (ranking_) return ranking_(std::move(asked), std::move(done));
    return done(fail(errc::not_found, "this node ranks nothing"));
  }
  table_->ask(node, call_kind::rank, message_of(asked), timeout,
              parsed<retrieval_scores>(std::move(done), wire::parse_retrieval_scores));
}

void node_calls::lease(const id128& node, lease_request wanted, duration timeout,
                       answered<lease_reply> done) {
  if (node == self_) {
    const auto here = store_.lock();
    return here ? here->lease(std::move(wanted), std::move(done)) : done(tl::unexpected{no_store()});
  }
  table_->ask(node, call_kind::lease, message_of(wanted), timeout,
              parsed<lease_reply>(std::move(done), wire::parse_lease_reply));
}

void node_calls::release(const id128& node, std::uint64_t lease) {
  if (node == self_) {
    if (const auto here = store_.lock()) here->release(lease);
    return;
  }
  auto message = wire::begin();
  wire::append_lease(message, lease);
  table_->tell(node, call_kind::release, std::move(message));
}

void node_calls::offer_to(const id128& node, offer what, duration timeout, answered<offer_reply> done) {
  if (node == self_) {
    const auto here = store_.lock();
    return here ? here->take(std::move(what), std::move(done)) : done(tl::unexpected{no_store()});
  }
  table_->ask(node, call_kind::offer, message_of(what), timeout,
              parsed<offer_reply>(std::move(done), wire::parse_offer_reply));
}

void node_calls::announce(const id128& node, announcement news, duration timeout, answered<void> done) {
  if (node == self_) return shard_->announce(std::move(news), std::move(done));
  table_->ask(node, call_kind::announce, message_of(news), timeout, acknowledged(std::move(done)));
}

void node_calls::withdraw(const id128& node, withdrawal gone, duration timeout, answered<void> done) {
  if (node == self_) return shard_->withdraw(std::move(gone), std::move(done));
  table_->ask(node, call_kind::withdraw, message_of(gone), timeout, acknowledged(std::move(done)));
}

void node_calls::touch(const id128& node, key_list used) {
  if (node == self_) {
    if (const auto here = store_.lock()) here->touch(std::move(used.keys));
    return;
  }
  table_->tell(node, call_kind::touch, message_of(used));
}

}  // namespace weft::actors
