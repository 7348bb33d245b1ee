#include "uploads.hpp"

#include <weft/schema/rpc_convert.hpp>

#include "pumps.hpp"

namespace weft::launcher::gateway {

upload_reservation::upload_reservation(service& s, std::uint64_t bytes) : service_(s), bytes_(bytes) {
  if (bytes > s.options.upload_bytes_max - s.upload_bytes)
    throw_error({errc::overloaded, "too many bytes are being uploaded at once; try again in a moment"});
  s.upload_bytes += bytes;
}

upload_reservation::~upload_reservation() {
  service_.upload_bytes -= bytes_;
}

void gathered_bytes::add(std::span<const std::byte> chunk) {
  if (taken_ || chunk.size() > announced_ - bytes_.size())
    throw_error({errc::invalid_argument,
                 "more bytes were uploaded than the " + std::to_string(announced_) + " announced"});
  bytes_.insert(bytes_.end(), chunk.begin(), chunk.end());
  sum_.add(chunk);
}

std::vector<std::byte> gathered_bytes::take(std::uint64_t checksum) {
  if (taken_) throw_error({errc::invalid_argument, "the upload has been finished already; start another"});
  if (bytes_.size() != announced_)
    throw_error({errc::invalid_argument, "the upload has " + std::to_string(bytes_.size()) +
                                             " bytes of the " + std::to_string(announced_) + " announced"});
  if (sum_.value() != checksum)
    throw_error(
        {errc::corrupt, "the uploaded bytes do not have the checksum given with them; upload them again"});
  taken_ = true;
  return std::move(bytes_);
}

namespace {

std::span<const std::byte> bytes_of(capnp::Data::Reader chunk) {
  return std::as_bytes(std::span(chunk.begin(), chunk.size()));
}

}  // namespace

// -- documents ---------------------------------------------------------------------------------------------

document_upload::document_upload(service& s, std::shared_ptr<connection_state> connection,
                                 schema::ingest_request head, std::uint64_t text_bytes)
    : service_(s), connection_(std::move(connection)), head_(std::move(head)), text_(s, text_bytes) {}

kj::Promise<void> document_upload::write(WriteContext context) {
  text_.add(bytes_of(context.getParams().getChunk()));
  return kj::READY_NOW;
}

kj::Promise<void> document_upload::end(EndContext) {
  return kj::READY_NOW;
}

kj::Promise<void> document_upload::finish(FinishContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto params = context.getParams();
  const auto text = text_.take(params.getChecksum());
  ingest_request request{std::move(head_), {}};
  request.text.assign(reinterpret_cast<const char*>(text.data()), text.size());

  // The client need not want to know; the backend may report in any case.
  auto pump = std::make_shared<progress_pump>(params.getProgress());
  request.on_progress = [tasks = service_.tasks, weak = std::weak_ptr(pump)](std::uint64_t done,
                                                                             std::uint64_t total) {
    post_to(tasks, weak, [done, total](progress_pump& p) { p.push(done, total); });
  };
  auto reports = params.hasProgress() ? pump->run() : kj::Promise<void>(kj::NEVER_DONE);

  const auto deadline = deadline_of(service_, params.getCall().getDeadlineMs());
  context.releaseParams();
  auto done = ask_backend<document_info>(service_, deadline, [&](call_context call, auto completion) {
                service_.backend->ingest(std::move(request), std::move(call), std::move(completion));
              }).then([context](document_info&& document) mutable {
    schema::write(document, context.getResults().initDocument());
  });
  return within(service_, deadline, done.exclusiveJoin(kj::mv(reports)))
      .attach(std::move(pump), kj::mv(slot));
}

// -- blocks ------------------------------------------------------------------------------------------------

block_upload::block_upload(service& s, std::shared_ptr<connection_state> connection, id128 key,
                           schema::block_layout layout, std::uint64_t block_bytes)
    : service_(s),
      connection_(std::move(connection)),
      key_(key),
      layout_(std::move(layout)),
      bytes_(s, block_bytes) {}

kj::Promise<void> block_upload::write(WriteContext context) {
  bytes_.add(bytes_of(context.getParams().getChunk()));
  return kj::READY_NOW;
}

kj::Promise<void> block_upload::end(EndContext) {
  return kj::READY_NOW;
}

kj::Promise<void> block_upload::commit(CommitContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto params = context.getParams();
  block_put block{key_, layout_, bytes_.take(params.getChecksum())};
  const auto deadline = deadline_of(service_, params.getCall().getDeadlineMs());
  auto done = ask_backend<void>(service_, deadline, [&](call_context call, auto completion) {
    service_.backend->put(std::move(block), std::move(call), std::move(completion));
  });
  return within(service_, deadline, kj::mv(done)).attach(kj::mv(slot));
}

}  // namespace weft::launcher::gateway
