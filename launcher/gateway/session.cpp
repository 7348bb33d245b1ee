#include "session.hpp"

#include <weft/schema/byte_stream.hpp>
#include <weft/schema/checksum.hpp>
#include <weft/schema/request_checks.hpp>
#include <weft/schema/rpc_convert.hpp>

#include <spdlog/spdlog.h>

#include "pumps.hpp"
#include "token.hpp"
#include "uploads.hpp"

namespace weft::launcher::gateway {

namespace wire = schema::wire;

// -- the first exchange ------------------------------------------------------------------------------------

namespace {

std::string version_text(unsigned major, unsigned minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

}  // namespace

kj::Promise<void> bootstrap::connect(ConnectContext context) {
  const auto hello = context.getParams().getHello();
  if (hello.getMajor() != wire::PROTOCOL_MAJOR)
    throw_error({errc::unsupported,
                 "this cluster speaks protocol " + version_text(wire::PROTOCOL_MAJOR, wire::PROTOCOL_MINOR) +
                     ", the client " + version_text(hello.getMajor(), hello.getMinor()) +
                     "; use a client of the version of the cluster (" + service_.options.software + ")"});
  const auto shown = schema::to_string(hello.getToken());
  if (!service_.options.token.empty() && !same_token(service_.options.token, shown)) {
    spdlog::warn("gateway: {} showed a wrong token", connection_->peer);
    return service_.timer.afterDelay(service_.options.refusal_delay.count() * kj::MILLISECONDS).then([] {
      throw_error({errc::invalid_argument,
                   "the cluster does not know this token; use the one its cluster file names"});
    });
  }
  connection_->welcome = true;
  auto results = context.getResults();
  results.setSession(kj::heap<session>(service_, connection_));
  auto welcome = results.initWelcome();
  welcome.setMajor(wire::PROTOCOL_MAJOR);
  welcome.setMinor(wire::PROTOCOL_MINOR);
  welcome.setSoftware(service_.options.software.c_str());
  welcome.setTextBytesMax(limits::text_bytes);
  welcome.setBlockBytesMax(limits::block_bytes);
  return kj::READY_NOW;
}

kj::Promise<void> session::ping(PingContext) {
  return kj::READY_NOW;
}

// -- documents ---------------------------------------------------------------------------------------------

kj::Promise<void> session::ingest(IngestContext context) {
  const auto wanted = context.getParams().getRequest();
  auto head = schema::read(wanted);
  throw_if_refused(schema::check_ingest(head, wanted.getTextBytes()));
  context.getResults().setUpload(
      kj::heap<document_upload>(service_, connection_, std::move(head), wanted.getTextBytes()));
  return kj::READY_NOW;
}

kj::Promise<void> session::documents(DocumentsContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto deadline = deadline_of(service_, context.getParams().getCall().getDeadlineMs());
  auto done =
      ask_backend<std::vector<document_info>>(service_, deadline, [this](call_context call, auto completion) {
        service_.backend->documents(std::move(call), std::move(completion));
      }).then([context](std::vector<document_info>&& list) mutable {
        schema::write_list(list, context.getResults().initDocuments(static_cast<unsigned>(list.size())));
      });
  return within(service_, deadline, kj::mv(done)).attach(kj::mv(slot));
}

template <class Context>
kj::Promise<void> session::on_document(Context context,
                                       void (backend::*method)(id128, call_context, completion<void>)) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto params = context.getParams();
  const auto document = schema::read(params.getDocument());
  const auto deadline = deadline_of(service_, params.getCall().getDeadlineMs());
  auto done = ask_backend<void>(service_, deadline, [&](call_context call, auto completion) {
    (*service_.backend.*method)(document, std::move(call), std::move(completion));
  });
  return within(service_, deadline, kj::mv(done)).attach(kj::mv(slot));
}

kj::Promise<void> session::drop(DropContext context) {
  return on_document(context, &backend::drop);
}
kj::Promise<void> session::pin(PinContext context) {
  return on_document(context, &backend::pin);
}
kj::Promise<void> session::unpin(UnpinContext context) {
  return on_document(context, &backend::unpin);
}

// -- questions ---------------------------------------------------------------------------------------------

kj::Promise<void> session::generate(GenerateContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto params = context.getParams();
  ask_request request{schema::read(params.getRequest()), {}};
  throw_if_refused(schema::check_ask(request));

  const bool streams = params.hasTokens();
  auto pump = std::make_shared<token_pump>(params.getTokens());
  request.on_token = [tasks = service_.tasks, weak = std::weak_ptr(pump), streams](token_piece piece) {
    if (!streams) return;
    post_to(tasks, weak, [piece = std::move(piece)](token_pump& p) mutable { p.push(std::move(piece)); });
  };
  auto delivered = (streams ? pump->run() : kj::Promise<void>(kj::READY_NOW)).fork();
  // A client that does not take its tokens ends the call at once; one that has taken them all waits for the
  // rest.
  auto refused = delivered.addBranch().then([]() -> kj::Promise<void> { return kj::NEVER_DONE; });

  const auto deadline = deadline_of(service_, params.getCall().getDeadlineMs());
  auto answered = ask_backend<ask_result>(service_, deadline, [&](call_context call, auto completion) {
    service_.backend->ask(std::move(request), std::move(call), std::move(completion));
  });
  auto done = answered.then([context, pump, all = delivered.addBranch()](ask_result&& answer) mutable {
    schema::write(answer, context.getResults().initResult());
    pump->close();
    return kj::mv(all);
  });
  return within(service_, deadline, done.exclusiveJoin(kj::mv(refused)))
      .attach(kj::mv(delivered), std::move(pump), kj::mv(slot));
}

// -- blocks ------------------------------------------------------------------------------------------------

kj::Promise<void> session::lookup(LookupContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto params = context.getParams();
  throw_if_refused(schema::check_lookup(params.getKeys().size()));
  auto keys = schema::read_list<id128>(params.getKeys());
  const auto deadline = deadline_of(service_, params.getCall().getDeadlineMs());
  auto done =
      ask_backend<std::vector<block_info>>(service_, deadline, [&](call_context call, auto completion) {
        service_.backend->lookup(std::move(keys), std::move(call), std::move(completion));
      }).then([context](std::vector<block_info>&& blocks) mutable {
        schema::write_list(blocks, context.getResults().initBlocks(static_cast<unsigned>(blocks.size())));
      });
  return within(service_, deadline, kj::mv(done)).attach(kj::mv(slot));
}

kj::Promise<void> session::put(PutContext context) {
  const auto params = context.getParams();
  auto layout = schema::read(params.getLayout());
  throw_if_refused(schema::check_put(layout, params.getBytes()));
  context.getResults().setUpload(kj::heap<block_upload>(service_, connection_, schema::read(params.getKey()),
                                                        std::move(layout), params.getBytes()));
  return kj::READY_NOW;
}

kj::Promise<void> session::get(GetContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto params = context.getParams();
  const auto key = schema::read(params.getKey());
  const auto deadline = deadline_of(service_, params.getCall().getDeadlineMs());
  auto done = ask_backend<block_payload>(service_, deadline, [&](call_context call, auto completion) {
                service_.backend->get(key, std::move(call), std::move(completion));
              }).then([context, sink = params.getSink()](block_payload&& block) mutable {
    auto results = context.getResults();
    schema::write(block.layout, results.initLayout());
    results.setBytes(block.bytes.size());
    results.setChecksum(schema::checksum_of(block.bytes));
    return schema::send_bytes(sink, block.bytes)
        .then([sink]() mutable { return sink.endRequest().send().ignoreResult(); })
        .attach(std::move(block.owner));
  });
  return within(service_, deadline, kj::mv(done)).attach(kj::mv(slot));
}

// -- status ------------------------------------------------------------------------------------------------

kj::Promise<void> session::status(StatusContext context) {
  allow_cancellation(context);
  auto slot = call_slot(service_, connection_);
  const auto deadline = deadline_of(service_, context.getParams().getCall().getDeadlineMs());
  auto done = ask_backend<cluster_status>(service_, deadline, [this](call_context call, auto completion) {
                service_.backend->status(std::move(call), std::move(completion));
              }).then([context](cluster_status&& status) mutable {
    schema::write(status, context.getResults().initStatus());
  });
  return within(service_, deadline, kj::mv(done)).attach(kj::mv(slot));
}

}  // namespace weft::launcher::gateway
