#include <weft/client/client.hpp>
#include <weft/schema/byte_stream.hpp>
#include <weft/schema/checksum.hpp>
#include <weft/schema/event_thread.hpp>
#include <weft/schema/request_checks.hpp>
#include <weft/schema/rpc_convert.hpp>
#include <weft/schema/rpc_error.hpp>

#include <kj/timer.h>

#include "address.hpp"
#include "conversation.hpp"
#include "link.hpp"
#include "sinks.hpp"

#include <atomic>
#include <map>
#include <optional>
#include <type_traits>
#include <utility>

namespace weft::client {

namespace wire = schema::wire;

namespace {

// The server answers by the deadline; only if it does not, we do, a little later.
constexpr std::chrono::milliseconds grace{250};

std::string in_ms(std::chrono::milliseconds time) {
  return std::to_string(time.count()) + " ms";
}

// A void answer takes part in `std::optional` and `result` as this.
struct nothing {};
template <class T>
using value_of = std::conditional_t<std::is_void_v<T>, nothing, T>;

}  // namespace

struct connection::state {
  std::string address;
  client::options options;
  client::welcome welcome;
  std::atomic<std::uint64_t> next_call{1};
  // Touched by the event thread only.
  kj::Maybe<kj::Own<link>> open;
  std::map<std::uint64_t, kj::Promise<void>> calls;
  schema::event_thread thread;

  ~state() {
    thread.stop([this] {
      calls.clear();
      open = nullptr;
    });
  }

  error error_of(const kj::Exception& e) const {
    auto known = schema::from_exception(e);
    // KJ's own words about a lost connection say nothing of which. Of what a cluster could not reach itself
    // the exception is of another type.
    if (e.getType() == kj::Exception::Type::DISCONNECTED && known.context.find(address) == std::string::npos)
      return {errc::unreachable, "the connection to the cluster at " + address + " is lost; connect again"};
    return known;
  }

  std::chrono::milliseconds deadline_of(const call_options& how) const {
    return how.deadline.count() > 0 ? how.deadline : options.deadline;
  }

  // Runs `begin() -> kj::Promise<T>` on the event thread and waits for it here. When this returns, or a
  // callback throws, the call is over: nothing of it refers to the caller's stack any more.
  template <class T, class Begin>
  result<T> run(std::chrono::milliseconds deadline, const std::stop_token& stop,
                const std::shared_ptr<conversation>& talk, Begin begin) {
    const auto id = next_call++;
    std::optional<result<value_of<T>>> outcome;  // touched by the event thread until `finish`
    const auto settle = [&](result<value_of<T>> with) {
      if (!outcome) outcome = std::move(with);
      talk->finish();
    };
    const auto settle_error = [&](kj::Exception&& e) { settle(tl::unexpected(error_of(e))); };

    struct end_of_call {
      state& s;
      std::uint64_t id;
      conversation& talk;
      ~end_of_call() {
        talk.finish();
        s.thread.run([this] { s.calls.erase(id); });
      }
    } end{*this, id, *talk};

    thread.tasks()->post([&, this] {
      auto late = thread.io().provider->getTimer().afterDelay(deadline.count() * kj::MILLISECONDS).then([&] {
        settle(fail(errc::deadline_exceeded, "the cluster at " + address + " did not answer within " +
                                                 in_ms(deadline) +
                                                 "; try again or give it a longer deadline"));
      });
      calls.emplace(id, kj::evalNow(begin)
                            .then([&](auto&&... value) { settle(value_of<T>{std::move(value)...}); })
                            .exclusiveJoin(kj::mv(late))
                            .catch_(settle_error)
                            .eagerlyEvaluate(nullptr));
    });
    const std::stop_callback on_stop(stop, [&, this] {
      thread.tasks()->post(
          [talk, &settle] { settle(fail(errc::cancelled, "the call was cancelled by its caller")); });
    });
    talk->wait();
    if (!*outcome) return tl::unexpected((*outcome).error());
    if constexpr (std::is_void_v<T>)
      return {};
    else
      return std::move(**outcome);
  }

  template <class T, class Begin>
  result<T> call(const call_options& how, const std::shared_ptr<conversation>& talk, Begin begin) {
    const auto deadline = deadline_of(how);
    return run<T>(deadline + grace, how.stop, talk, [&, this]() -> kj::Promise<T> {
      auto& l = *KJ_ASSERT_NONNULL(open);
      return begin(l.session, static_cast<std::uint64_t>(deadline.count()));
    });
  }

  template <class T, class Begin>
  result<T> call(const call_options& how, Begin begin) {
    return call<T>(how, std::make_shared<conversation>(), std::move(begin));
  }

  // A call that names one document and answers nothing.
  template <class MakeRequest>
  result<void> on_document(id128 document, const call_options& how, MakeRequest make) {
    return call<void>(how, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
      auto request = make(session);
      schema::write(document, request.initDocument());
      request.initCall().setDeadlineMs(deadline_ms);
      return request.send().ignoreResult();
    });
  }
};

result<connection> connect(const std::string& address, options how) {
  if (auto ok = check_address(address); !ok) return tl::unexpected(ok.error());
  auto s = std::make_unique<connection::state>();
  s->address = address;
  s->options = std::move(how);
  auto opened = s->run<void>(s->options.connect_timeout, {}, std::make_shared<conversation>(), [&] {
    return open_link(s->thread.io(), address, s->options).then([&](kj::Own<link>&& l) {
      s->welcome = l->welcome;
      s->open = kj::mv(l);
    });
  });
  if (!opened && opened.error().code == errc::deadline_exceeded)
    return fail(errc::unreachable, "no cluster answers at " + address + " within " +
                                       in_ms(s->options.connect_timeout) +
                                       "; give the address of one that runs");
  if (!opened) return tl::unexpected(opened.error());
  return connection(std::move(s));
}

connection::connection(std::unique_ptr<state> s) : state_(std::move(s)) {}
connection::connection(connection&&) noexcept = default;
connection& connection::operator=(connection&&) noexcept = default;
connection::~connection() = default;

const client::welcome& connection::welcome() const {
  return state_->welcome;
}

// -- documents ---------------------------------------------------------------------------------------------

result<document_info> connection::ingest(const ingest_request& request, const progress_callback& on_progress,
                                         const call_options& how) {
  if (auto ok = schema::check_ingest(request, request.text.size()); !ok) return tl::unexpected(ok.error());
  auto talk = std::make_shared<conversation>();
  return state_->call<document_info>(
      how, talk, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
        auto announce = session.ingestRequest();
        schema::write(request, announce.initRequest());
        return announce.send().then([&, deadline_ms](auto&& announced) {
          auto upload = announced.getUpload();
          return schema::send_bytes(upload, std::as_bytes(std::span(request.text)))
              .then([&, deadline_ms, upload]() mutable {
                auto finish = upload.finishRequest();
                finish.setChecksum(schema::checksum_of(request.text));
                if (on_progress)
                  finish.setProgress(kj::heap<progress_sink>(state_->thread.tasks(), talk, on_progress));
                finish.initCall().setDeadlineMs(deadline_ms);
                return finish.send().then([](auto&& answer) { return schema::read(answer.getDocument()); });
              });
        });
      });
}

result<std::vector<document_info>> connection::documents(const call_options& how) {
  return state_->call<std::vector<document_info>>(
      how, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
        auto request = session.documentsRequest();
        request.initCall().setDeadlineMs(deadline_ms);
        return request.send().then(
            [](auto&& answer) { return schema::read_list<document_info>(answer.getDocuments()); });
      });
}

result<void> connection::drop(id128 document, const call_options& how) {
  return state_->on_document(document, how, [](wire::Session::Client& s) { return s.dropRequest(); });
}

result<void> connection::pin(id128 document, const call_options& how) {
  return state_->on_document(document, how, [](wire::Session::Client& s) { return s.pinRequest(); });
}

result<void> connection::unpin(id128 document, const call_options& how) {
  return state_->on_document(document, how, [](wire::Session::Client& s) { return s.unpinRequest(); });
}

// -- questions ---------------------------------------------------------------------------------------------

result<ask_result> connection::ask(const ask_request& request, const token_callback& on_token,
                                   const call_options& how) {
  if (auto ok = schema::check_ask(request); !ok) return tl::unexpected(ok.error());
  auto talk = std::make_shared<conversation>();
  return state_->call<ask_result>(how, talk, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
    auto question = session.generateRequest();
    schema::write(request, question.initRequest());
    if (on_token) question.setTokens(kj::heap<token_sink>(state_->thread.tasks(), talk, on_token));
    question.initCall().setDeadlineMs(deadline_ms);
    return question.send().then([](auto&& answer) { return schema::read(answer.getResult()); });
  });
}

// -- blocks ------------------------------------------------------------------------------------------------

result<std::vector<block_info>> connection::lookup(std::span<const id128> keys, const call_options& how) {
  if (auto ok = schema::check_lookup(keys.size()); !ok) return tl::unexpected(ok.error());
  return state_->call<std::vector<block_info>>(
      how, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
        auto request = session.lookupRequest();
        schema::write_list(keys, request.initKeys(static_cast<unsigned>(keys.size())));
        request.initCall().setDeadlineMs(deadline_ms);
        return request.send().then(
            [](auto&& answer) { return schema::read_list<block_info>(answer.getBlocks()); });
      });
}

result<void> connection::put(id128 key, const block_layout& layout, std::span<const std::byte> bytes,
                             const call_options& how) {
  if (auto ok = schema::check_put(layout, bytes.size()); !ok) return ok;
  return state_->call<void>(how, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
    auto announce = session.putRequest();
    schema::write(key, announce.initKey());
    schema::write(layout, announce.initLayout());
    announce.setBytes(bytes.size());
    return announce.send().then([&, deadline_ms](auto&& announced) {
      auto upload = announced.getUpload();
      return schema::send_bytes(upload, bytes).then([&, deadline_ms, upload]() mutable {
        auto commit = upload.commitRequest();
        commit.setChecksum(schema::checksum_of(bytes));
        commit.initCall().setDeadlineMs(deadline_ms);
        return commit.send().ignoreResult();
      });
    });
  });
}

result<block> connection::get(id128 key, const call_options& how) {
  auto gathered = std::make_shared<gathered_block>();
  return state_->call<block>(how, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
    auto request = session.getRequest();
    schema::write(key, request.initKey());
    request.setSink(kj::heap<block_sink>(gathered));
    request.initCall().setDeadlineMs(deadline_ms);
    return request.send().then([&](auto&& answer) {
      if (gathered->bytes.size() != answer.getBytes() || gathered->sum.value() != answer.getChecksum())
        kj::throwFatalException(
            schema::to_exception({errc::corrupt, "block " + to_hex(key) + " arrived damaged; get it again"}));
      return block{schema::read(answer.getLayout()), std::move(gathered->bytes)};
    });
  });
}

// -- status ------------------------------------------------------------------------------------------------

result<cluster_status> connection::status(const call_options& how) {
  return state_->call<cluster_status>(how, [&](wire::Session::Client& session, std::uint64_t deadline_ms) {
    auto request = session.statusRequest();
    request.initCall().setDeadlineMs(deadline_ms);
    return request.send().then([](auto&& answer) { return schema::read(answer.getStatus()); });
  });
}

result<std::chrono::nanoseconds> connection::ping(const call_options& how) {
  const auto before = std::chrono::steady_clock::now();
  auto answered = state_->call<void>(how, [](wire::Session::Client& session, std::uint64_t) {
    return session.pingRequest().send().ignoreResult();
  });
  if (!answered) return tl::unexpected(answered.error());
  return std::chrono::steady_clock::now() - before;
}

}  // namespace weft::client
