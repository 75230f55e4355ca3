/* See send.h. One association for all images: two presentation contexts of MR Image Storage, one
** with Explicit, one with Implicit VR Little Endian, so that the peer's taste does not decide what
** we would rather send. Source: PS3.4 annex B, PS3.7 9.1, PS3.8 9.3.
**
** What the peer says in words (error comments) is not kept: it may quote patient data. */
#include "dicom/send.h"

#include "base/clock.h"
#include "dicom/shim.hh"

#include "dcmtk/dcmnet/assoc.h"
#include "dcmtk/dcmnet/cond.h"
#include "dcmtk/dcmnet/dcmtrans.h"
#include "dcmtk/dcmnet/dimse.h"
#include "dcmtk/dcmnet/diutil.h"

#include <cstdio>
#include <cstring>

namespace
{

const T_ASC_PresentationContextID ID_EXPLICIT = 1, ID_IMPLICIT = 3;

/* Network and association of one call; torn down in the right order whatever happens. */
struct Link {
    T_ASC_Network *network = nullptr;
    T_ASC_Parameters *parameters = nullptr; /* until an association owns them */
    T_ASC_Association *association = nullptr;
    bool is_open = false; /* the peer accepted and has not ended it */

    Link() = default;
    Link(const Link &) = delete;
    Link &operator=(const Link &) = delete;
    ~Link()
    {
        if (association != nullptr) {
            if (is_open)
                (void)ASC_abortAssociation(association);
            (void)ASC_dropAssociation(association);
            (void)ASC_destroyAssociation(&association);
        } else if (parameters != nullptr) {
            (void)ASC_destroyAssociationParameters(&parameters);
        }
        if (network != nullptr)
            (void)ASC_dropNetwork(&network);
    }
};

/* What went wrong with the association. `what` is the step it happened in. */
Status association_error(Link *link, const OFCondition &condition, const char *what, Err *err)
{
    if (condition.module() == OFM_dcmnet) {
        switch (condition.code()) {
        case DULC_ASSOCIATIONREJECTED: {
            T_ASC_RejectParameters r;
            (void)ASC_getRejectParameters(link->parameters, &r);
            bool is_transient = r.result == ASC_RESULT_REJECTEDTRANSIENT;
            /* DCMTK's reason holds source and reason as 0xsrr. */
            return err_set(err, is_transient ? ST_SEND_BUSY : ST_SEND_REJECTED,
                           "association rejected %s: source %u, reason %u%s",
                           is_transient ? "for now" : "for good", (unsigned)r.source,
                           (unsigned)r.reason & 0xffu,
                           r.reason == ASC_REASON_SU_CALLEDAETITLENOTRECOGNIZED
                               ? " (called AE title not recognised)"
                           : r.reason == ASC_REASON_SU_CALLINGAETITLENOTRECOGNIZED
                               ? " (calling AE title not recognised)"
                               : "");
        }
        case DULC_TCPINITERROR:
        case DULC_UNKNOWNHOST:
        case DULC_REQUESTASSOCIATIONFAILED:
            return err_dcmtk(err, ST_SEND_CONNECT, condition, "no TCP connection");
        case DULC_READTIMEOUT:
        case DIMSEC_NODATAAVAILABLE:
            return err_dcmtk(err, ST_TIMEOUT, condition, what);
        default:
            break;
        }
    }
    return err_dcmtk(err, ST_SEND_ABORTED, condition, what);
}

/* DCMTK parses "host:port" with sscanf into 128 bytes, and knows no IPv6 literal there. */
Status make_address(const Destination *d, char *ret, size_t size, Err *err)
{
    if (d->host[0] == '\0' || std::strlen(d->host) > 127 || std::strchr(d->host, ':') != nullptr)
        return err_set(err, ST_SEND_CONNECT,
                       "the host of the destination is not a name of at most "
                       "127 characters or an IPv4 address");
    (void)std::snprintf(ret, size, "%.127s:%d", d->host, d->port);
    return ST_OK;
}

Status add_context(T_ASC_Parameters *p, T_ASC_PresentationContextID id, const char *sop_class,
                   const char *syntax, Err *err)
{
    const char *syntaxes[] = {syntax};
    TRY_DCMTK(ASC_addPresentationContext(p, id, sop_class, syntaxes, 1), ST_INTERNAL, err,
              "a presentation context cannot be proposed");
    return ST_OK;
}

Status open_link(const Destination *d, const char *sop_class, Link *link, Err *err)
{
    char address[256];
    TRY(make_address(d, address, sizeof address, err));
    Sint32 timeout_s = d->timeout_s > 0 ? d->timeout_s : 30;
    dcmConnectionTimeout.set(timeout_s);
    dcmSocketSendTimeout.set(timeout_s);
    dcmSocketReceiveTimeout.set(timeout_s);
    TRY_DCMTK(ASC_initializeNetwork(NET_REQUESTOR, 0, timeout_s, &link->network), ST_INTERNAL, err,
              "the network cannot be initialised");
    TRY_DCMTK(ASC_createAssociationParameters(&link->parameters, ASC_MAXIMUMPDUSIZE), ST_INTERNAL,
              err, "association parameters");
    T_ASC_Parameters *p = link->parameters;
    TRY_DCMTK(ASC_setAPTitles(p, d->calling_ae, d->ae_title, nullptr), ST_INTERNAL, err,
              "AE titles");
    TRY_DCMTK(ASC_setPresentationAddresses(p, "localhost", address), ST_INTERNAL, err, "address");
    TRY(add_context(p, ID_EXPLICIT, sop_class, UID_LittleEndianExplicitTransferSyntax, err));
    TRY(add_context(p, ID_IMPLICIT, sop_class, UID_LittleEndianImplicitTransferSyntax, err));

    OFCondition condition = ASC_requestAssociation(link->network, p, &link->association);
    if (condition.bad())
        return association_error(link, condition, "association not established", err);
    link->is_open = true;
    return ST_OK;
}

/* The accepted context, Explicit first; 0 if the peer accepts none. */
T_ASC_PresentationContextID accepted_context(T_ASC_Parameters *p)
{
    for (T_ASC_PresentationContextID id : {ID_EXPLICIT, ID_IMPLICIT}) {
        T_ASC_PresentationContext context;
        if (ASC_findAcceptedPresentationContext(p, id, &context).good())
            return id;
    }
    return 0;
}

/* An orderly end. A peer that does not answer it has all images all the same. */
void close_link(Link *link)
{
    if (ASC_releaseAssociation(link->association).good())
        link->is_open = false;
}

Status status_of_dimse(uint16_t code)
{
    if (code == 0 || (code & 0xf000) == 0xb000)
        return ST_OK;
    if (code == 0x0111) // Duplicate SOP Instance: it is there; our UIDs stand for the very bytes
        return ST_OK;
    return (code & 0xff00) == 0xa700 ? ST_SEND_RESOURCES : ST_SEND_REFUSED;
}

Status load_image(const char *path, DcmFileFormat *file, T_DIMSE_C_StoreRQ *request, Err *err)
{
    TRY_DCMTK(file->loadFile(path), ST_DICOM_PARSE, err, "an image to send cannot be read");
    DcmDataset *dataset = file->getDataset();
    OFString sop_class = text_of(dataset, DCM_SOPClassUID);
    OFString sop_uid = text_of(dataset, DCM_SOPInstanceUID);
    if (sop_class != UID_MRImageStorage || sop_uid.empty() ||
        sop_uid.size() >= sizeof request->AffectedSOPInstanceUID)
        return err_set(err, ST_DICOM_PARSE, "an image to send is not an MR Image");
    TRY_DCMTK(dataset->chooseRepresentation(EXS_LittleEndianExplicit, nullptr), ST_DICOM_PARSE, err,
              "an image to send cannot be decoded");
    OFStandard::strlcpy(request->AffectedSOPClassUID, sop_class.c_str(),
                        sizeof request->AffectedSOPClassUID);
    OFStandard::strlcpy(request->AffectedSOPInstanceUID, sop_uid.c_str(),
                        sizeof request->AffectedSOPInstanceUID);
    request->DataSetType = DIMSE_DATASET_PRESENT;
    request->Priority = DIMSE_PRIORITY_MEDIUM;
    return ST_OK;
}

/* One C-STORE. ST_OK: the peer answered, with *ret_dimse. */
Status store_image(Link *link, T_ASC_PresentationContextID context, const char *path,
                   int32_t timeout_s, uint16_t *ret_dimse, Err *err)
{
    DcmFileFormat file;
    T_DIMSE_C_StoreRQ request = {};
    T_DIMSE_C_StoreRSP response = {};
    TRY(load_image(path, &file, &request, err));
    request.MessageID = link->association->nextMsgID++;
    DcmDataset *detail = nullptr;
    OFCondition condition =
        DIMSE_storeUser(link->association, context, &request, nullptr, file.getDataset(), nullptr,
                        nullptr, DIMSE_NONBLOCKING, timeout_s, &response, &detail);
    delete detail;
    if (condition.bad())
        return association_error(link, condition, "association lost while sending", err);
    *ret_dimse = response.DimseStatus;
    return ST_OK;
}

Status send_all(Link *link, T_ASC_PresentationContextID context, int32_t timeout_s,
                const char *const *paths, int32_t n, SendCallback callback, void *ctx, Err *err)
{
    Status first = ST_OK;
    if (callback != nullptr && !callback(ctx, -1, 0, ST_OK))
        return err_set(err, ST_CANCELLED, "stopped before the first of %d images", n);
    for (int32_t i = 0; i < n; i++) {
        uint16_t dimse = 0;
        Status status = store_image(link, context, paths[i], timeout_s, &dimse, err);
        if (status != ST_OK)
            return err_wrap(err, "image %d of %d", i + 1, n);
        status = status_of_dimse(dimse);
        if (status != ST_OK && first == ST_OK)
            first = err_set(err, status, "image %d of %d: DICOM status %04XH", i + 1, n, dimse);
        if (callback != nullptr && !callback(ctx, i, dimse, status) && i + 1 < n) {
            if (first == ST_OK)
                first = err_set(err, ST_CANCELLED, "stopped after image %d of %d", i + 1, n);
            break;
        }
    }
    close_link(link);
    return first;
}

} // namespace

Status dicom_send(const Destination *destination, const char *const *paths, int32_t n,
                  SendCallback callback, void *context, Err *err)
{
    return guard(err, [&]() -> Status {
        if (n <= 0)
            return ST_OK;
        Link link;
        int32_t timeout_s = destination->timeout_s > 0 ? destination->timeout_s : 30;
        TRY(open_link(destination, UID_MRImageStorage, &link, err));
        T_ASC_PresentationContextID id = accepted_context(link.parameters);
        if (id == 0) {
            close_link(&link);
            return err_set(err, ST_SEND_CONTEXT, "MR Image Storage is not accepted");
        }
        return send_all(&link, id, timeout_s, paths, n, callback, context, err);
    });
}

Status dicom_echo(const Destination *destination, double *ret_ms, Err *err)
{
    return guard(err, [&]() -> Status {
        Link link;
        int32_t timeout_s = destination->timeout_s > 0 ? destination->timeout_s : 30;
        double start_s = clock_monotonic_s();
        TRY(open_link(destination, UID_VerificationSOPClass, &link, err));
        if (accepted_context(link.parameters) == 0) {
            close_link(&link);
            return err_set(err, ST_SEND_CONTEXT, "Verification is not accepted");
        }
        DIC_US status = 0;
        DcmDataset *detail = nullptr;
        OFCondition condition = DIMSE_echoUser(link.association, link.association->nextMsgID++,
                                               DIMSE_NONBLOCKING, timeout_s, &status, &detail);
        delete detail;
        if (condition.bad())
            return association_error(&link, condition, "association lost during C-ECHO", err);
        close_link(&link);
        if (status != 0)
            return err_set(err, ST_SEND_REFUSED, "C-ECHO answered with %04XH", status);
        *ret_ms = (clock_monotonic_s() - start_s) * 1e3;
        return ST_OK;
    });
}
