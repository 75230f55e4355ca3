// See scp.hh.
//
// Policy and order (PS3.7, PS3.8; the answers are the README's table of receiver cases):
//   request    a well-formed request PDU, our application context, called and calling AE titles,
//              then the daemon's word on limits: acknowledged or rejected with the right reason
//   contexts   Verification; CT Image Storage uncompressed (preferred) or losslessly compressed
//   C-STORE    streamed unparsed to spool/tmp, scanned (prescan.h), durable in spool/incoming
//              (spool_file.h), reported, answered with what the daemon says
// Nothing of the peer's goes into a file name, a log or a message but its AE title, which is made
// printable. DCMTK's parser sees command sets only.
#include "dicom/scp.hh"

#include "dicom/confine.h"
#include "dicom/prescan_int.h"
#include "dicom/scp_transport.hh"
#include "dicom/spool_file.h"

#include "base/clock.h"
#include "base/files.h"
#include "base/message.h"

#include "dcmtk/dcmdata/dcdeftag.h"
#include "dcmtk/dcmdata/dcdict.h"
#include "dcmtk/dcmdata/dcostrma.h"
#include "dcmtk/dcmdata/dcuid.h"
#include "dcmtk/dcmnet/dimse.h"
#include "dcmtk/oflog/oflog.h"

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace
{

constexpr long MAX_PDU_BYTES = 131072;            // the largest that DCMTK offers; fastest
constexpr uint32_t MAX_REQUEST_BYTES = 64 * 1024; // of an A-ASSOCIATE-RQ
constexpr uint64_t MAX_DRAIN_BYTES = 4ULL << 30;  // of a data set that is not kept
constexpr uint64_t MIB = 1 << 20;
constexpr uint64_t META_MAX_BYTES = 4096;         // in front of the data set
constexpr uint64_t SPARE_MEMORY_BYTES = 96 * MIB; // PDU buffers, command sets
constexpr int LINGER_S = 1;                       // for the peer to close after the end
constexpr char IMPLEMENTATION_CLASS[] = "2.25.142307434878224149569819001904413403316";
constexpr char IMPLEMENTATION_VERSION[] = "CT2MR_" CT2MR_VERSION;

const char *const VERIFICATION_SYNTAXES[] = {UID_LittleEndianExplicitTransferSyntax,
                                             UID_LittleEndianImplicitTransferSyntax};
const char *const CT_SYNTAXES[] = {
    UID_LittleEndianExplicitTransferSyntax, UID_LittleEndianImplicitTransferSyntax,
    UID_RLELosslessTransferSyntax,          UID_JPEGProcess14SV1TransferSyntax,
    UID_JPEGProcess14TransferSyntax,        UID_JPEGLSLosslessTransferSyntax,
};

// Takes a data set from DCMTK as it arrives. Failures of the file do not stop the reception: the
// peer must be heard to the end before it can be answered.
class SpoolConsumer : public DcmConsumer
{
  public:
    // file, digest: nullptr, the data set is dropped
    SpoolConsumer(SpoolFile *file, Digest *digest) : file_(file), digest_(digest) {}
    OFBool good() const override
    {
        return OFTrue;
    }
    OFCondition status() const override
    {
        return EC_Normal;
    }
    OFBool isFlushed() const override
    {
        return OFTrue;
    }
    offile_off_t avail() const override
    {
        return MAX_PDU_BYTES;
    }
    offile_off_t write(const void *data, offile_off_t size) override
    {
        received_ += static_cast<uint64_t>(size);
        if (file_ != nullptr) {
            spool_file_write(file_, data, static_cast<size_t>(size));
            digest_add(digest_, data, static_cast<size_t>(size));
        }
        return received_ > MAX_DRAIN_BYTES ? 0 : size;
    }
    void flush() override {}
    uint64_t received() const
    {
        return received_;
    }

  private:
    SpoolFile *file_;
    Digest *digest_;
    uint64_t received_ = 0;
};

class SpoolStream : public DcmOutputStream
{
  public:
    explicit SpoolStream(SpoolConsumer *consumer) : DcmOutputStream(consumer) {}
};

// How a C-STORE is answered, and why.
struct Verdict {
    unsigned dimse = DIMSE_SUCCESS;
    Status status = ST_OK;
    std::string text;
};

// ---- the file's beginning, PS3.10 section 7.1 ----

void append_u16(std::string &out, size_t number)
{
    out.push_back(static_cast<char>(number & 0xFF));
    out.push_back(static_cast<char>(number >> 8 & 0xFF));
}

void append_meta(std::string &out, unsigned element, const char *vr, std::string value, char pad)
{
    if (value.size() % 2 != 0)
        value.push_back(pad);
    append_u16(out, 0x0002);
    append_u16(out, element);
    out += vr;
    if (strcmp(vr, "OB") == 0) {
        append_u16(out, 0);
        append_u16(out, value.size());
        append_u16(out, 0);
    } else {
        append_u16(out, value.size());
    }
    out += value;
}

std::string make_meta(const T_DIMSE_C_StoreRQ &request, const char *syntax)
{
    std::string meta, length, file(128, '\0');
    append_meta(meta, 0x0001, "OB", std::string("\0\1", 2), '\0');
    append_meta(meta, 0x0002, "UI", request.AffectedSOPClassUID, '\0');
    append_meta(meta, 0x0003, "UI", request.AffectedSOPInstanceUID, '\0');
    append_meta(meta, 0x0010, "UI", syntax, '\0');
    append_meta(meta, 0x0012, "UI", IMPLEMENTATION_CLASS, '\0');
    append_meta(meta, 0x0013, "SH", IMPLEMENTATION_VERSION, ' ');
    append_u16(length, meta.size());
    append_u16(length, 0);
    file += "DICM";
    append_meta(file, 0x0000, "UL", length, '\0');
    return file + meta;
}

// ---- the association ----

class Association
{
  public:
    Association(T_ASC_Network *network, const AssociationJob &job)
        : network_(network), job_(job), options_(*job.options), meter_(report_progress, this)
    {
        memset(&file_, 0, sizeof file_);
        file_.fd = -1;
    }
    int run();

  private:
    static void report_progress(void *self, uint64_t bytes);
    bool send(ReceiveReport &report);
    bool ask(ReceiveReport &report, uint16_t *ret_answer);
    bool report_end(bool orderly);
    bool request_looks_right();
    void abort();
    bool contexts_are_well_formed();
    bool admit();
    bool reject(unsigned result, unsigned source, unsigned reason);
    bool refuse(unsigned reason, const char *why);
    OFCondition negotiate();
    OFCondition serve();
    OFCondition store(T_ASC_PresentationContextID id, T_DIMSE_C_StoreRQ &request);
    OFCondition receive(T_ASC_PresentationContextID id, SpoolFile *file, Digest *digest,
                        uint64_t *ret_bytes);
    Verdict judge_command(T_ASC_PresentationContextID id, const T_DIMSE_C_StoreRQ &request,
                          std::string *ret_syntax);
    Verdict keep(uint64_t bytes, const uint8_t digest[DIGEST_SIZE]);
    OFCondition take(T_ASC_PresentationContextID id, const T_DIMSE_C_StoreRQ &request,
                     const std::string &syntax, Verdict *verdict);
    OFCondition answer(T_ASC_PresentationContextID id, T_DIMSE_C_StoreRQ &request,
                       const Verdict &verdict);

    T_ASC_Network *network_;
    const AssociationJob &job_;
    const ReceiveOptions &options_;
    TransferMeter meter_;
    bool stores_ = false; // the daemon has been told
    T_ASC_Association *association_ = nullptr;
    SpoolFile file_;
    SpoolBuffer buffer_ = {};
    char calling_ae_[AE_SIZE] = "";
    unsigned sequence_ = 0;
};

bool Association::send(ReceiveReport &report)
{
    memcpy(report.calling_ae, calling_ae_, sizeof report.calling_ae);
    return message_send(job_.channel_fd, &report, sizeof report, nullptr, 0) == 1;
}

ReceiveReport make_report(ReceiveReportType type)
{
    ReceiveReport report;
    memset(&report, 0, sizeof report); // padding too
    report.type = type;
    return report;
}

bool Association::ask(ReceiveReport &report, uint16_t *ret_answer)
{
    return send(report) && message_receive(job_.channel_fd, ret_answer, sizeof *ret_answer, nullptr,
                                           nullptr) == sizeof *ret_answer;
}

void Association::report_progress(void *self, uint64_t bytes)
{
    ReceiveReport report = make_report(REPORT_PROGRESS);
    report.bytes = bytes;
    (void)static_cast<Association *>(self)->send(report);
}

// False if the daemon has not heard of an orderly end.
bool Association::report_end(bool orderly)
{
    ReceiveReport report = make_report(REPORT_END);
    uint16_t answer = 0;
    report.orderly = orderly;
    return orderly ? ask(report, &answer) : send(report);
}

// DCMTK reads the body of whatever length is announced, blocking. So the first six bytes are looked
// at before it does: PDU type 1, and a body of a sane size (PS3.8 section 9.3.2).
bool Association::request_looks_right()
{
    struct timeval limit = {options_.association_timeout_s, 0};
    (void)setsockopt(job_.connection_fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    unsigned char header[6];
    ssize_t n = recv(job_.connection_fd, header, sizeof header, MSG_PEEK | MSG_WAITALL);
    if (n != static_cast<ssize_t>(sizeof header))
        return false;
    uint32_t length = static_cast<uint32_t>(header[2]) << 24 |
                      static_cast<uint32_t>(header[3]) << 16 |
                      static_cast<uint32_t>(header[4]) << 8 | header[5];
    if (header[0] == 1 && length <= MAX_REQUEST_BYTES)
        return true;
    abort();
    return false;
}

// A-ABORT (PS3.8 section 9.3.8; source: provider), then up to LINGER_S for the peer to close, while
// what it still sends is dropped: closing with bytes unread would reset the connection and take the
// A-ABORT with it. DCMTK's own function waits for the whole association timeout instead.
void Association::abort()
{
    static const unsigned char abort_pdu[] = {7, 0, 0, 0, 0, 4, 0, 0, 2, 0};
    int64_t end_ms = clock_monotonic_ms() + LINGER_S * 1000;
    if (::send(job_.connection_fd, abort_pdu, sizeof abort_pdu, MSG_NOSIGNAL) < 0)
        return;
    (void)shutdown(job_.connection_fd, SHUT_WR);
    for (int64_t left_ms; (left_ms = end_ms - clock_monotonic_ms()) > 0;) {
        char dropped[4096];
        struct pollfd fd = {job_.connection_fd, POLLIN, 0};
        if (poll(&fd, 1, static_cast<int>(left_ms)) <= 0 ||
            recv(job_.connection_fd, dropped, sizeof dropped, 0) <= 0)
            return;
    }
}

// Odd and unrepeated context ids, at least one (PS3.8 section 9.3.2.2).
bool Association::contexts_are_well_formed()
{
    bool seen[256] = {};
    int n = ASC_countPresentationContexts(association_->params);
    for (int i = 0; i < n; i++) {
        T_ASC_PresentationContext context;
        if (ASC_getPresentationContext(association_->params, i, &context).bad())
            return false;
        unsigned id = context.presentationContextID;
        if (id % 2 == 0 || seen[id])
            return false;
        seen[id] = true;
    }
    return n > 0 && n <= 128;
}

bool Association::reject(unsigned result, unsigned source, unsigned reason)
{
    // DCMTK writes the low byte of the reason; the high byte names the source again.
    T_ASC_RejectParameters parameters = {
        static_cast<T_ASC_RejectParametersResult>(result),
        static_cast<T_ASC_RejectParametersSource>(source),
        static_cast<T_ASC_RejectParametersReason>(source << 8 | reason)};
    (void)ASC_rejectAssociation(association_, &parameters);
    return false;
}

// For good, because of what the peer says of itself: the daemon is told, for log and status.
bool Association::refuse(unsigned reason, const char *why)
{
    ReceiveReport report = make_report(REPORT_REJECTED);
    (void)snprintf(report.text, sizeof report.text, "%s", why);
    (void)send(report);
    return reject(ASC_RESULT_REJECTEDPERMANENT, ASC_SOURCE_SERVICEUSER, reason);
}

// AE titles are compared without surrounding spaces (PS3.5 section 6.2).
std::string trimmed(const char *text, size_t size)
{
    std::string s(text, strnlen(text, size));
    size_t first = s.find_first_not_of(' '), last = s.find_last_not_of(' ');
    return first == std::string::npos ? "" : s.substr(first, last - first + 1);
}

bool calling_is_allowed(const ReceiveOptions &options, const std::string &calling)
{
    for (int i = 0; i < options.n_calling && i < RECEIVE_MAX_CALLING; i++)
        if (trimmed(options.calling_ae[i], AE_SIZE) == calling)
            return true;
    return options.n_calling == 0;
}

// False: the association was rejected.
bool Association::admit()
{
    const DUL_ASSOCIATESERVICEPARAMETERS &p = association_->params->DULparams;
    std::string calling = trimmed(p.callingAPTitle, sizeof p.callingAPTitle);
    std::string called = trimmed(p.calledAPTitle, sizeof p.calledAPTitle);
    for (size_t i = 0; i < calling.size() && i + 1 < sizeof calling_ae_; i++)
        calling_ae_[i] =
            calling[i] >= 0x20 && calling[i] <= 0x7E && calling[i] != '"' ? calling[i] : '?';

    char context[DICOM_UI_LENGTH + 1] = "";
    (void)ASC_getApplicationContextName(association_->params, context, sizeof context);
    if (strcmp(context, UID_StandardApplicationContext) != 0)
        return refuse(2, "application context is not DICOM's");
    if (options_.check_called_ae && called != trimmed(options_.ae_title, AE_SIZE))
        return refuse(7, "called AE title is not listen.ae_title");
    if (!calling_is_allowed(options_, calling))
        return refuse(3, "calling AE title is not in listen.calling_ae");

    ReceiveReport report = make_report(REPORT_ASSOCIATED);
    uint16_t reason = 1; // the daemon has gone: temporary congestion
    (void)ask(report, &reason);
    if (reason != 0)
        return reject(ASC_RESULT_REJECTEDTRANSIENT, ASC_SOURCE_SERVICEPROVIDER_PRESENTATION_RELATED,
                      reason);
    return true;
}

template <int n>
OFCondition accept(T_ASC_Parameters *p, const char *uid, const char *const (&s)[n])
{
    const char *classes[] = {uid};
    const char *list[n];
    for (int i = 0; i < n; i++)
        list[i] = s[i];
    return ASC_acceptContextsWithPreferredTransferSyntaxes(p, classes, 1, list, n);
}

OFCondition Association::negotiate()
{
    T_ASC_Parameters *p = association_->params;
    OFCondition cond = accept(p, UID_VerificationSOPClass, VERIFICATION_SYNTAXES);
    if (cond.good())
        cond = accept(p, UID_CTImageStorage, CT_SYNTAXES);
    (void)snprintf(p->ourImplementationClassUID, sizeof p->ourImplementationClassUID, "%s",
                   IMPLEMENTATION_CLASS);
    (void)snprintf(p->ourImplementationVersionName, sizeof p->ourImplementationVersionName, "%s",
                   IMPLEMENTATION_VERSION);
    return cond.good() ? ASC_acknowledgeAssociation(association_) : cond;
}

OFCondition Association::serve()
{
    OFCondition cond;
    while (cond.good()) {
        T_DIMSE_Message message;
        T_ASC_PresentationContextID id = 0;
        DcmDataset *detail = nullptr;
        cond = DIMSE_receiveCommand(association_, DIMSE_NONBLOCKING, options_.idle_timeout_s, &id,
                                    &message, &detail);
        delete detail;
        if (cond.bad())
            return cond;
        if (message.CommandField == DIMSE_C_STORE_RQ) {
            if (!stores_) {
                ReceiveReport report = make_report(REPORT_STORES);
                stores_ = send(report);
            }
            cond = store(id, message.msg.CStoreRQ);
        } else if (message.CommandField == DIMSE_C_ECHO_RQ) {
            cond = DIMSE_sendEchoResponse(association_, id, &message.msg.CEchoRQ, STATUS_Success,
                                          nullptr);
            meter_.report_now();
        } else {
            return DIMSE_BADCOMMANDTYPE;
        }
    }
    return cond;
}

// ---- C-STORE ----

// What can be said before the data set has come.
Verdict Association::judge_command(T_ASC_PresentationContextID id, const T_DIMSE_C_StoreRQ &request,
                                   std::string *ret_syntax)
{
    T_ASC_PresentationContext context;
    memset(&context, 0, sizeof context);
    if (ASC_findAcceptedPresentationContext(association_->params, id, &context).bad())
        return {DIMSE_SOP_CLASS_NOT_SUPPORTED, ST_UNSUPPORTED, "context was not accepted"};
    *ret_syntax = context.acceptedTransferSyntax;
    if (strcmp(context.abstractSyntax, UID_CTImageStorage) != 0 ||
        strcmp(request.AffectedSOPClassUID, context.abstractSyntax) != 0)
        return {DIMSE_SOP_CLASS_NOT_SUPPORTED, ST_UNSUPPORTED,
                "SOP Class differs from the presentation context"};
    if (!uid_is_valid(request.AffectedSOPInstanceUID))
        return {DIMSE_INVALID_SOP_INSTANCE, ST_DICOM_ATTRIBUTE,
                "SOP Instance UID of the command is not a UID"};
    uint64_t free_bytes = 0;
    Err err = {};
    if (disk_free(options_.spool, &free_bytes, &err) != ST_OK)
        return {DIMSE_OUT_OF_RESOURCES, err.status, "spool cannot be used"};
    if (free_bytes < options_.min_free_bytes)
        return {DIMSE_OUT_OF_RESOURCES, ST_DISK_FULL, "free space is below listen.min_free_mib"};
    return {};
}

// One data set into file, or nowhere. Anything wrong with the PDVs ends the association.
OFCondition Association::receive(T_ASC_PresentationContextID id, SpoolFile *file, Digest *digest,
                                 uint64_t *ret_bytes)
{
    SpoolConsumer consumer(file, digest);
    SpoolStream stream(&consumer);
    T_ASC_PresentationContextID data_id = 0;
    meter_.begin_data_set();
    OFCondition cond =
        DIMSE_receiveDataSetInFile(association_, DIMSE_NONBLOCKING, options_.idle_timeout_s,
                                   &data_id, &stream, nullptr, nullptr);
    meter_.end_data_set();
    *ret_bytes = consumer.received();
    if (cond == DUL_PEERREQUESTEDRELEASE || (cond.good() && data_id != id))
        cond = DIMSE_BADDATA; // a release within a data set is no orderly end
    return cond;
}

// The whole data set lies in buffer_: scans it, publishes it, asks the daemon.
Verdict Association::keep(uint64_t bytes, const uint8_t digest[DIGEST_SIZE])
{
    if (bytes == 0)
        return {DIMSE_CANNOT_UNDERSTAND, ST_DICOM_PARSE, "data set is empty"};
    ReceiveReport report = make_report(REPORT_STORED);
    Err err = {};
    Status status = spool_file_check(&file_, &err);
    if (status != ST_OK)
        return {DIMSE_OUT_OF_RESOURCES, status, err.msg};
    unsigned dimse = DIMSE_SUCCESS;
    status = prescan_hashed(buffer_.data, file_.size_bytes, digest, &report.instance, &dimse, &err);
    if (status != ST_OK)
        return {dimse, status, err.msg};

    (void)snprintf(report.instance.file, sizeof report.instance.file, "%016llx-%llu-%u.dcm",
                   static_cast<unsigned long long>(options_.run_id),
                   static_cast<unsigned long long>(job_.connection_id), sequence_++);
    status = spool_file_publish(&file_, report.instance.file, &err);
    if (status != ST_OK)
        return {DIMSE_OUT_OF_RESOURCES, status, err.msg};
    uint16_t answer = DIMSE_OUT_OF_RESOURCES;
    if (!ask(report, &answer)) // the file stays: the next start of the daemon finds it
        return {DIMSE_OUT_OF_RESOURCES, ST_UNREACHABLE, "daemon has gone"};
    return {answer, ST_OK, ""};
}

OFCondition Association::answer(T_ASC_PresentationContextID id, T_DIMSE_C_StoreRQ &request,
                                const Verdict &verdict)
{
    T_DIMSE_C_StoreRSP response;
    memset(&response, 0, sizeof response);
    response.DimseStatus = static_cast<DIC_US>(verdict.dimse);
    DcmDataset detail;
    if (!verdict.text.empty()) // LO: at most 64 characters, no backslash in ours
        (void)detail.putAndInsertString(DCM_ErrorComment, verdict.text.substr(0, 64).c_str());
    return DIMSE_sendStoreResponse(association_, id, &request, &response,
                                   verdict.text.empty() ? nullptr : &detail);
}

// Receives the data set of a command that was found good, and tries to keep it.
OFCondition Association::take(T_ASC_PresentationContextID id, const T_DIMSE_C_StoreRQ &request,
                              const std::string &syntax, Verdict *verdict)
{
    char part[FILE_NAME_SIZE];
    (void)snprintf(part, sizeof part, "%016llx-%llu.part",
                   static_cast<unsigned long long>(options_.run_id),
                   static_cast<unsigned long long>(job_.connection_id));
    std::string meta = make_meta(request, syntax.c_str());
    spool_file_begin(&file_, job_.tmp_dir_fd, job_.incoming_dir_fd, part, &buffer_);
    spool_file_write(&file_, meta.data(), meta.size());
    Digest *digest = digest_new();
    digest_add(digest, syntax.data(), syntax.size());
    uint64_t bytes = 0;
    OFCondition cond = receive(id, &file_, digest, &bytes);
    uint8_t sum[DIGEST_SIZE];
    digest_end(digest, sum);
    if (cond.good())
        *verdict = keep(bytes, sum);
    spool_file_end(&file_);
    return cond;
}

OFCondition Association::store(T_ASC_PresentationContextID id, T_DIMSE_C_StoreRQ &request)
{
    std::string syntax;
    Verdict verdict = judge_command(id, request, &syntax);
    OFCondition cond;
    uint64_t bytes = 0;
    if (request.DataSetType == DIMSE_DATASET_NULL) {
        if (verdict.status == ST_OK)
            verdict = {DIMSE_CANNOT_UNDERSTAND, ST_DICOM_PARSE, "C-STORE without a data set"};
    } else if (verdict.status == ST_OK) {
        cond = take(id, request, syntax, &verdict);
    } else {
        cond = receive(id, nullptr, nullptr, &bytes);
    }
    if (cond.bad())
        return cond;
    if (verdict.status != ST_OK) {
        ReceiveReport report = make_report(REPORT_REFUSED);
        report.dimse_status = static_cast<uint16_t>(verdict.dimse);
        report.status = verdict.status;
        (void)snprintf(report.text, sizeof report.text, "%s", verdict.text.c_str());
        (void)send(report);
    }
    return answer(id, request, verdict);
}

// ---- from the first byte to the end ----

int Association::run()
{
    uint64_t object_bytes = static_cast<uint64_t>(options_.max_object_mib) * MIB;
    if (spool_buffer_open(object_bytes + META_MAX_BYTES, &buffer_, nullptr) != ST_OK ||
        confine_process(object_bytes + META_MAX_BYTES, SPARE_MEMORY_BYTES, nullptr) != ST_OK)
        return 3;
    if (!request_looks_right()) {
        (void)report_end(false);
        return 2;
    }
    scp_set_meter(&meter_);
    dcmExternalSocketHandle.set(job_.connection_fd);
    OFCondition cond = ASC_receiveAssociation(network_, &association_, MAX_PDU_BYTES, nullptr,
                                              nullptr, OFFalse, DUL_BLOCK, 0);
    if (cond.bad() || !contexts_are_well_formed()) {
        (void)report_end(false);
        abort();
        return 2;
    }
    bool orderly = false;
    if (admit()) {
        cond = negotiate();
        if (cond.good())
            cond = serve();
        orderly = cond == DUL_PEERREQUESTEDRELEASE;
    }
    // First the daemon, then the peer: what the peer takes for a good end has been noted as one.
    if (!report_end(orderly))
        orderly = false;
    if (orderly)
        (void)ASC_acknowledgeRelease(association_);
    if (cond.bad() && !orderly) {
        abort();
        return 1;
    }
    (void)ASC_dropSCPAssociation(association_, LINGER_S);
    return orderly ? 0 : 1;
}

} // namespace

T_ASC_Network *scp_initialise(const ReceiveOptions &options) noexcept
{
    try {
        // Read by DCMTK for each connection; without it an answer waits 40 ms for the peer's ACK.
        (void)setenv("TCP_NODELAY", "1", 1);
        OFLog::configure(OFLogger::OFF_LOG_LEVEL);
        (void)dcmDataDict.rdlock(); // loads the dictionary now: the children share its pages
        dcmDataDict.rdunlock();
        dcmDisableGethostbyaddr.set(OFTrue);
        dcmSocketReceiveTimeout.set(options.idle_timeout_s);
        dcmSocketSendTimeout.set(options.idle_timeout_s);
        // A handle >= 0 keeps DCMTK from opening a listener of its own (dul.h).
        dcmExternalSocketHandle.set(INT_MAX);
        T_ASC_Network *network = nullptr;
        OFCondition cond =
            ASC_initializeNetwork(NET_ACCEPTOR, 0, options.association_timeout_s, &network);
        if (cond.good())
            cond = ASC_setTransportLayer(network, new QuickAckLayer, 1);
        return cond.good() ? network : nullptr;
    } catch (...) {
        return nullptr;
    }
}

int scp_run_association(T_ASC_Network *network, const AssociationJob &job) noexcept
{
    try {
        // Timeouts may have been reloaded since the zygote started.
        dcmSocketReceiveTimeout.set(job.options->idle_timeout_s);
        dcmSocketSendTimeout.set(job.options->idle_timeout_s);
        Association association(network, job);
        return association.run();
    } catch (...) {
        return 4; // the channel's end tells the daemon
    }
}
