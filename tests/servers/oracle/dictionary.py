"""The few views of Oracle's dictionary that the gateway asks, as tables that tests fill."""

from __future__ import annotations

from typing import Final

# SQLite has no pseudo-columns: SYSTIMESTAMP (here in days since 1970), ROWNUM and the time zones are columns.
VIEWS: Final = """
create table if not exists session_privs (privilege text);
create table if not exists user_tables (table_name text);
create table if not exists user_tab_privs_recd (owner text, table_name text, privilege text);
create table if not exists role_tab_privs (owner text, table_name text, privilege text);
create table if not exists user_resource_limits (resource_name text, "limit" text);
create table if not exists nls_database_parameters (
    parameter text, value text, dbtimezone text default '+02:00', sessiontimezone text default '+00:00');
insert into nls_database_parameters (parameter, value) values
    ('NLS_CHARACTERSET', 'AL32UTF8'), ('NLS_NCHAR_CHARACTERSET', 'AL16UTF16'), ('NLS_LANGUAGE', 'AMERICAN'),
    ('NLS_TERRITORY', 'AMERICA'), ('NLS_COMP', 'BINARY');
create table if not exists product_component_version (version text, systimestamp real, rownum integer);
insert into product_component_version values ('19.0.0.0.0', julianday('now') - 2440587.5, 1);
"""
RESOURCES: Final = """
create table if not exists v$resource_limit (resource_name text, limit_value text);
insert into v$resource_limit values
    ('processes', '       300'), ('sessions', '       472'), ('dml_locks', '  UNLIMITED');
"""
"""What accounts with SELECT on V_$RESOURCE_LIMIT see."""
