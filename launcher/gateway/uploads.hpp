// Bytes on their way in: a document's text, an engine's block. On the event thread.
#pragma once

#include <weft/schema/checksum.hpp>
#include <weft/schema/weft.capnp.h>

#include "service.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace weft::launcher::gateway {

// Counts announced bytes while it lives. Throws `overloaded` where there are too many.
class upload_reservation {
 public:
  upload_reservation(service& s, std::uint64_t bytes);
  ~upload_reservation();
  upload_reservation(const upload_reservation&) = delete;
  upload_reservation& operator=(const upload_reservation&) = delete;

 private:
  service& service_;
  std::uint64_t bytes_;
};

// Gathers the chunks of an announced size. Refuses a byte more, and at the end a byte less or another
// checksum.
class gathered_bytes {
 public:
  gathered_bytes(service& s, std::uint64_t announced) : reservation_(s, announced), announced_(announced) {}

  void add(std::span<const std::byte> chunk);
  std::vector<std::byte> take(std::uint64_t checksum);  // once

 private:
  upload_reservation reservation_;
  std::uint64_t announced_;
  std::vector<std::byte> bytes_;
  schema::running_checksum sum_;
  bool taken_ = false;
};

class document_upload final : public schema::wire::DocumentUpload::Server {
 public:
  document_upload(service& s, std::shared_ptr<connection_state> connection, schema::ingest_request head,
                  std::uint64_t text_bytes);

  kj::Promise<void> write(WriteContext context) override;
  kj::Promise<void> end(EndContext context) override;
  kj::Promise<void> finish(FinishContext context) override;

 private:
  service& service_;
  std::shared_ptr<connection_state> connection_;
  schema::ingest_request head_;
  gathered_bytes text_;
};

class block_upload final : public schema::wire::BlockUpload::Server {
 public:
  block_upload(service& s, std::shared_ptr<connection_state> connection, id128 key,
               schema::block_layout layout, std::uint64_t block_bytes);

  kj::Promise<void> write(WriteContext context) override;
  kj::Promise<void> end(EndContext context) override;
  kj::Promise<void> commit(CommitContext context) override;

 private:
  service& service_;
  std::shared_ptr<connection_state> connection_;
  id128 key_;
  schema::block_layout layout_;
  gathered_bytes bytes_;
};

}  // namespace weft::launcher::gateway
