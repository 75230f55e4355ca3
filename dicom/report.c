/* receive_report_valid() of receive.h. In C and without DCMTK, because the daemon uses it: what a
** receive child says may have been said by whoever broke into it. */
#include "dicom/prescan.h"
#include "dicom/receive.h"

#include <math.h>
#include <string.h>

/* Terminated within its array, printable ASCII. */
static bool text_is_valid(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '\0')
            return true;
        if (text[i] < 0x20 || text[i] > 0x7E)
            return false;
    }
    return false;
}

static bool hex_is_valid(const char hex[HEX_SIZE])
{
    return strspn(hex, "0123456789abcdef") == HEX_SIZE - 1;
}

/* A byte other than 0 and 1 in a bool is undefined behaviour to read. */
static bool bool_is_valid(const bool *flag)
{
    unsigned char byte;
    memcpy(&byte, flag, 1);
    return byte <= 1;
}

/* Names of our making: hexadecimal digits and hyphens, ".dcm" at the end. */
static bool file_name_is_valid(const char *name)
{
    size_t stem = strspn(name, "0123456789abcdef-");
    return stem > 0 && strcmp(name + stem, ".dcm") == 0;
}

static bool geometry_is_valid(const ImageGeometry *g)
{
    if (!text_is_valid(g->frame_uid, sizeof g->frame_uid) || !bool_is_valid(&g->has_position) ||
        !bool_is_valid(&g->is_localizer) || g->rows < 1 || g->columns < 1 ||
        (g->frame_uid[0] != '\0' && !uid_is_valid(g->frame_uid)))
        return false;
    double sum = g->slice_thickness_mm;
    for (int i = 0; i < 3; i++)
        sum += fabs(g->ipp_lps_mm[i]) / 8;
    for (int i = 0; i < 6; i++)
        sum += fabs(g->iop[i]) / 16;
    sum += g->pixel_spacing_mm[0] / 8 + g->pixel_spacing_mm[1] / 8;
    return isfinite(sum) && g->slice_thickness_mm >= 0;
}

static bool instance_is_valid(const Instance *i)
{
    return text_is_valid(i->file, sizeof i->file) && file_name_is_valid(i->file) &&
           text_is_valid(i->sop_class_uid, UID_SIZE) && uid_is_valid(i->sop_class_uid) &&
           text_is_valid(i->sop_uid, UID_SIZE) && uid_is_valid(i->sop_uid) &&
           text_is_valid(i->series_uid, UID_SIZE) && uid_is_valid(i->series_uid) &&
           text_is_valid(i->study_uid, UID_SIZE) && uid_is_valid(i->study_uid) &&
           text_is_valid(i->transfer_syntax_uid, UID_SIZE) &&
           uid_is_valid(i->transfer_syntax_uid) && text_is_valid(i->patient_key, HEX_SIZE) &&
           hex_is_valid(i->patient_key) && text_is_valid(i->digest, HEX_SIZE) &&
           hex_is_valid(i->digest) && geometry_is_valid(&i->geometry);
}

bool receive_report_valid(const ReceiveReport *report, size_t size_bytes)
{
    Status status;
    if (size_bytes != sizeof *report || report->type < REPORT_ASSOCIATED ||
        report->type > REPORT_END)
        return false;
    if (!bool_is_valid(&report->orderly) || !status_from_number(report->status, &status) ||
        !text_is_valid(report->calling_ae, sizeof report->calling_ae) ||
        !text_is_valid(report->text, sizeof report->text))
        return false;
    return report->type != REPORT_STORED || instance_is_valid(&report->instance);
}
