# Run once, by the image, when the database is made.
psql --set=ON_ERROR_STOP=1 --set=password="$GATEWAY_PASSWORD" --dbname="$POSTGRES_DB" <<'SQL'
create table customers (id int primary key, name text not null, email text not null, balance numeric(12, 2) not null);
insert into customers values (1, 'Ada Lovelace', 'ada@example.com', 1815.12);
create role gateway_ro login password :'password';
grant select on customers to gateway_ro;
SQL