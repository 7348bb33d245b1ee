#include "scripted_backend.hpp"

#include <weft/schema/checksum.hpp>

#include <chrono>
#include <stdexcept>
#include <utility>

namespace weft::launcher::gateway::testing {
namespace {

constexpr std::chrono::seconds patience{20};

}  // namespace

scripted_backend::scripted_backend()
    : worker_([this] {
        std::unique_lock lock(mutex_);
        for (;;) {
          changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
          if (jobs_.empty()) return;
          auto job = std::move(jobs_.front());
          jobs_.pop_front();
          lock.unlock();
          job();
          job = nullptr;
          lock.lock();
        }
      }) {}

scripted_backend::~scripted_backend() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

void scripted_backend::later(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  changed_.notify_all();
}

// -- questions ---------------------------------------------------------------------------------------------

void scripted_backend::ask(ask_request request, call_context context, completion<ask_result> done) {
  const std::lock_guard lock(mutex_);
  last_question_ = request;
  if (request.question == "hold") {
    held_questions_.push_back(std::move(done));
    watches_.push_back(std::make_unique<std::stop_callback<std::function<void()>>>(
        context.cancelled, std::function<void()>([this] {
          later([this] {
            const std::lock_guard inner(mutex_);
            ++cancelled_;
            changed_.notify_all();
          });
        })));
    changed_.notify_all();
    return;
  }
  jobs_.push_back(
      [this, request = std::move(request), done = std::move(done)] { answer_question(request, done); });
  changed_.notify_all();
}

void scripted_backend::answer_question(const ask_request& request, const completion<ask_result>& done) {
  if (request.question == "fail")
    return done(fail(errc::out_of_space, "the question is longer than the context; shorten it"));
  if (request.question == "alone")
    return done(fail(errc::unreachable, "no live node has that role; give it to one"));
  ask_result result;
  std::size_t begin = 0;
  while (begin < request.question.size()) {
    const auto end = std::min(request.question.find(' ', begin), request.question.size() - 1) + 1;
    const auto id = static_cast<std::int32_t>(result.tokens.size());
    if (result.tokens.size() < request.max_tokens) {
      result.tokens.push_back(id);
      result.answer += request.question.substr(begin, end - begin);
      request.on_token({id, request.question.substr(begin, end - begin)});
    }
    begin = end;
  }
  result.prompt_tokens = 17;
  result.ttft_ms = 1.5;
  result.load_ms = 0.25;
  result.rotate_ms = 0.125;
  result.compute_ms = 1;
  result.decode_tokens_per_s = 100;
  result.transfers = {{"storage-1", "shm", "posix/memory", 4096}, {"storage-2", "tcp", "tcp/lo", 8192}};
  result.misses = 1;
  done(result);
  done(fail(errc::internal, "an answer after the answer"));
}

// -- documents ---------------------------------------------------------------------------------------------

void scripted_backend::ingest(ingest_request request, call_context, completion<document_info> done) {
  if (request.text == "hold") {
    const std::lock_guard lock(mutex_);
    held_documents_.push_back(std::move(done));
    changed_.notify_all();
    return;
  }
  later([this, request = std::move(request), done = std::move(done)] {
    for (std::uint64_t tenth = 1; tenth <= 10; ++tenth)
      request.on_progress(tenth, 10);
    document_info info;
    info.id = {schema::checksum_of(request.text), request.text.size()};
    info.name = request.name;
    info.tokens = request.text.size();
    info.blocks = (request.text.size() + 63) / 64;
    info.bytes = info.blocks * 4096;
    info.holders = {"storage-1", "storage-2"};
    info.importance = request.importance.empty() ? "none" : request.importance;
    info.band_ratios = request.ratio ? std::vector{*request.ratio, 1.0} : std::vector{1.0};
    info.ms = 2.5;
    {
      const std::lock_guard lock(mutex_);
      documents_[info.id] = {info, request.text};
    }
    done(info);
  });
}

void scripted_backend::documents(call_context, completion<std::vector<document_info>> done) {
  later([this, done = std::move(done)] {
    std::vector<document_info> list;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& [id, document] : documents_)
        list.push_back(document.info);
    }
    done(list);
  });
}

void scripted_backend::drop(id128 document, call_context, completion<void> done) {
  later([this, document, done = std::move(done)] {
    std::unique_lock lock(mutex_);
    const bool dropped = documents_.erase(document) > 0;
    lock.unlock();
    if (dropped) return done({});
    done(fail(errc::not_found, "no document " + to_hex(document) + "; `weft documents` lists them"));
  });
}

void scripted_backend::set_pinned(id128 document, bool pinned, completion<void> done) {
  later([this, document, pinned, done = std::move(done)] {
    std::unique_lock lock(mutex_);
    const auto found = documents_.find(document);
    if (found != documents_.end()) found->second.info.pinned = pinned;
    const bool known = found != documents_.end();
    lock.unlock();
    if (known) return done({});
    done(fail(errc::not_found, "no document " + to_hex(document) + "; `weft documents` lists them"));
  });
}

void scripted_backend::pin(id128 document, call_context, completion<void> done) {
  set_pinned(document, true, std::move(done));
}

void scripted_backend::unpin(id128 document, call_context, completion<void> done) {
  set_pinned(document, false, std::move(done));
}

// -- blocks ------------------------------------------------------------------------------------------------

void scripted_backend::lookup(std::vector<id128> keys, call_context,
                              completion<std::vector<block_info>> done) {
  later([this, keys = std::move(keys), done = std::move(done)] {
    std::vector<block_info> found;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& key : keys) {
        const auto block = blocks_.find(key);
        if (block == blocks_.end())
          found.push_back({key, false, 0, {}});
        else
          found.push_back({key, true, block->second->bytes.size(), {"storage-1"}});
      }
    }
    done(found);
  });
}

void scripted_backend::put(block_put block, call_context, completion<void> done) {
  auto shared = std::make_shared<const block_put>(std::move(block));
  later([this, shared = std::move(shared), done = std::move(done)] {
    {
      const std::lock_guard lock(mutex_);
      blocks_[shared->key] = shared;
    }
    done({});
  });
}

void scripted_backend::get(id128 key, call_context, completion<block_payload> done) {
  later([this, key, done = std::move(done)] {
    std::unique_lock lock(mutex_);
    const auto found = blocks_.find(key);
    const auto block = found == blocks_.end() ? nullptr : found->second;
    lock.unlock();
    if (!block) return done(fail(errc::not_found, "no block " + to_hex(key) + "; put it first"));
    done(block_payload{block->layout, block->bytes, block});
  });
}

// -- status ------------------------------------------------------------------------------------------------

void scripted_backend::status(call_context, completion<cluster_status> done) {
  later([done = std::move(done)] {
    node_status node;
    node.name = "storage-1";
    node.pid = 42;
    node.alive = true;
    node.incarnation = 0xfeedfacecafebeef;
    node.roles = {"storage"};
    node.dram = {1024, 4096};
    node.peers = {{"decode", "shm", "posix/memory", 12.5}};
    node.counters = {{"mailbox_bytes_max", 800}, {"fabric_bytes", 123456}};
    done(cluster_status{7, {node}});
  });
}

// -- what tests look at ------------------------------------------------------------------------------------

bool scripted_backend::wait_for_cancellation() {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience, [this] { return cancelled_ > 0; });
}

bool scripted_backend::wait_for_held(std::size_t count) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, patience,
                           [&] { return held_questions_.size() + held_documents_.size() >= count; });
}

void scripted_backend::forget_held() {
  std::unique_lock lock(mutex_);
  const auto forgotten = std::exchange(held_questions_, {});
  const auto documents = std::exchange(held_documents_, {});
  lock.unlock();
}

void scripted_backend::answer_held() {
  std::unique_lock lock(mutex_);
  const auto held = std::exchange(held_questions_, {});
  lock.unlock();
  for (const auto& done : held)
    done(ask_result{});
}

ask_request scripted_backend::last_question() {
  const std::lock_guard lock(mutex_);
  return last_question_;
}

std::string scripted_backend::text_of(id128 document) {
  const std::lock_guard lock(mutex_);
  return documents_.at(document).text;
}

running_gateway::running_gateway(server_options options) {
  auto started = gateway::server::start(std::move(options), backend);
  if (!started) throw std::runtime_error(to_string(started.error()));
  server = std::move(*started);
}

client::connection running_gateway::connect(client::options how) const {
  auto connected = client::connect(server->address(), std::move(how));
  if (!connected) throw std::runtime_error(to_string(connected.error()));
  return std::move(*connected);
}

}  // namespace weft::launcher::gateway::testing
