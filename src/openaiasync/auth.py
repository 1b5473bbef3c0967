"""Workload identities for ``AsyncOpenAI(workload_identity=...)``, under the official client's path and names."""

from .identity.providers import (
    SubjectTokenProvider,
    azure_managed_identity_token_provider,
    gcp_id_token_provider,
    k8s_service_account_token_provider,
)
from .identity.token_exchange import SubjectTokenProviderError
from .identity.workload import (
    SubjectTokenWorkloadIdentity,
    WorkloadIdentity,
    WorkloadIdentityAuth,
    X509WorkloadIdentity,
    x509_workload_identity,
)

__all__ = [
    "SubjectTokenProvider",
    "SubjectTokenProviderError",
    "SubjectTokenWorkloadIdentity",
    "WorkloadIdentity",
    "WorkloadIdentityAuth",
    "X509WorkloadIdentity",
    "azure_managed_identity_token_provider",
    "gcp_id_token_provider",
    "k8s_service_account_token_provider",
    "x509_workload_identity",
]
