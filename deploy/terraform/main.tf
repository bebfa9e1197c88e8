# One Firebase project and its apps, without the services themselves: `firelaunch deploy --with-terraform` builds their
# revisions and releases rules. All names, roles and settings are variables; `firelaunch terraform` writes them.

terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project = var.project.id
  region  = var.project.region
}

module "project" {
  source            = "./modules/project"
  project           = var.project
  github_repository = var.github_repository
  billing_account   = var.billing_account
}

module "service" {
  for_each       = var.services
  source         = "./modules/service"
  name           = each.key
  service        = each.value
  project        = var.project.id
  region         = var.project.region
  project_number = module.project.number
  settings       = var.settings

  # Its roles name databases, and its queue wants its API on.
  depends_on = [module.project]
}

output "workload_identity_provider" {
  description = "For GitHub's variable WORKLOAD_IDENTITY_PROVIDER; null without github_repository."
  value       = module.project.workload_identity_provider
}
