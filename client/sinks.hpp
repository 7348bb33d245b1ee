// What the cluster calls back on while a call runs. On the event thread; each may outlive its call, because
// the other end lets go of it when it likes.
#pragma once

#include <weft/client/client.hpp>
#include <weft/schema/checksum.hpp>
#include <weft/schema/event_thread.hpp>
#include <weft/schema/weft.capnp.h>

#include "conversation.hpp"

#include <cstddef>
#include <memory>
#include <vector>

namespace weft::client {

using mailbox = std::shared_ptr<schema::event_thread::mailbox>;

// Hands tokens to the caller's thread and takes more only once the callback has returned.
class token_sink final : public schema::wire::TokenSink::Server {
 public:
  token_sink(mailbox tasks, std::shared_ptr<conversation> talk, const token_callback& on_token)
      : tasks_(std::move(tasks)), talk_(std::move(talk)), on_token_(on_token) {}

  kj::Promise<void> tokens(TokensContext context) override;
  kj::Promise<void> end(EndContext context) override;

 private:
  mailbox tasks_;
  std::shared_ptr<conversation> talk_;
  const token_callback on_token_;
};

class progress_sink final : public schema::wire::ProgressSink::Server {
 public:
  progress_sink(mailbox tasks, std::shared_ptr<conversation> talk, const progress_callback& on_progress)
      : tasks_(std::move(tasks)), talk_(std::move(talk)), on_progress_(on_progress) {}

  kj::Promise<void> update(UpdateContext context) override;

 private:
  mailbox tasks_;
  std::shared_ptr<conversation> talk_;
  const progress_callback on_progress_;
};

// Gathers the bytes of one block.
struct gathered_block {
  std::vector<std::byte> bytes;
  schema::running_checksum sum;
};

class block_sink final : public schema::wire::ByteSink::Server {
 public:
  explicit block_sink(std::shared_ptr<gathered_block> into) : into_(std::move(into)) {}

  kj::Promise<void> write(WriteContext context) override;
  kj::Promise<void> end(EndContext context) override;

 private:
  std::shared_ptr<gathered_block> into_;
};

}  // namespace weft::client
